// Package canary finds out whether a secret reached a place where it does not belong, for tests.
//
// A Canary is a random secret; a Sweep looks for it in files, output and the memory of processes, in
// every form that quoting, escaping, encoding, hashing and compression give it.
package canary

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // to read what stands in a database, whatever its pages do to it
)

// A Canary is a random secret that tests send on its way, and look for wherever it does not
// belong. Its value holds what quoting, escaping and shells change.
type Canary struct {
	Name  string
	Value string
}

// New makes a canary.
func New(name string) Canary {
	raw := make([]byte, 24)
	rand.Read(raw)
	text := base64.RawURLEncoding.EncodeToString(raw)
	return Canary{name, "canary " + text[:16] + `+/&<"=%` + text[16:]}
}

// Forms are the spellings in which the value could leak, by what they are called: as it is and
// a piece of it, the ways in which programs print bytes, and plain digests, which of a short
// secret are the secret.
func (c Canary) Forms() map[string][]byte {
	v := []byte(c.Value)
	forms := map[string][]byte{
		"raw":            slices.Clip(v),
		"first half":     v[7:23:23],
		"second half":    v[30:46:46],
		"hex":            []byte(hex.EncodeToString(v)),
		"HEX":            []byte(strings.ToUpper(hex.EncodeToString(v))),
		"URL query":      []byte(url.QueryEscape(c.Value)),
		"URL path":       []byte(url.PathEscape(c.Value)),
		"JSON":           inner(json.Marshal(c.Value)),
		"JSON, no HTML":  inner(plainJSON(c.Value)),
		"Go":             inner([]byte(fmt.Sprintf("%q", v)), nil),
		"list of bytes":  []byte(strings.Trim(fmt.Sprint(v), "[]")),
		"shell, escaped": []byte(strings.NewReplacer(`"`, `\"`, "&", `\&`, "<", `\<`).Replace(c.Value)),
	}

	for shift := range 3 { // base64 of it inside something longer: the middle is the same for each shift
		for name, e := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
			s := e.EncodeToString(append(bytes.Repeat([]byte("x"), shift), v...))
			forms[fmt.Sprintf("%s+%d", name, shift)] = []byte(s[4 : len(s)-4])
		}
	}

	for end, text := range map[string]string{"": c.Value, " with newline": c.Value + "\n"} {
		p := []byte(text)
		m, s1, s2, s5 := md5.Sum(p), sha1.Sum(p), sha256.Sum256(p), sha512.Sum512(p)
		for name, sum := range map[string][]byte{"MD5": m[:], "SHA-1": s1[:], "SHA-256": s2[:], "SHA-512": s5[:]} {
			forms[name+end] = []byte(hex.EncodeToString(sum))
			forms[name+" in bytes"+end] = sum
			forms[name+" in base64"+end] = []byte(base64.RawStdEncoding.EncodeToString(sum))
		}
	}

	return forms
}

func inner(quoted []byte, _ error) []byte { return bytes.Trim(bytes.TrimSpace(quoted), `"`) }

func plainJSON(s string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)

	err := e.Encode(s)
	return b.Bytes(), err
}

// A Sweep looks for canaries. What is compressed it unpacks, of a database it reads the rows.
// It may be used by many goroutines.
type Sweep struct {
	heads map[uint64][]needle
	few   [1 << 16]bool // which heads there may be: nearly all bytes end here

	mu      sync.Mutex
	found   map[string]bool
	files   int
	bytes   int64
	samples int
}

type needle struct {
	name string
	form []byte
}

// NewSweep looks for cs.
func NewSweep(cs ...Canary) *Sweep {
	s := &Sweep{heads: map[uint64][]needle{}, found: map[string]bool{}}
	for _, c := range cs {
		for name, form := range c.Forms() {
			h := binary.LittleEndian.Uint64(form)
			s.heads[h] = append(s.heads[h], needle{c.Name + " as " + name, form})
			s.few[short(h)] = true
		}
	}
	return s
}

func short(h uint64) uint64 { return h * 0x9e3779b97f4a7c15 >> 48 }

// Found says what was found where, sorted. It never repeats a value.
func (s *Sweep) Found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for f := range s.found {
		out = append(out, f)
	}

	slices.Sort(out)
	return out
}

// Seen is how much was looked at: a sweep of nothing finds nothing.
func (s *Sweep) Seen() (files, samples int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files, s.samples, s.bytes
}

// Look searches p.
func (s *Sweep) Look(where string, p []byte) {
	s.mu.Lock()
	s.bytes += int64(len(p))
	s.mu.Unlock()
	s.look(where, p, 0)
}

const deepest = 3 // archives in archives

func (s *Sweep) look(where string, p []byte, depth int) {
	for i := 0; i+8 <= len(p); i++ {
		h := binary.LittleEndian.Uint64(p[i:])
		if !s.few[short(h)] {
			continue
		}

		for _, n := range s.heads[h] {
			if bytes.HasPrefix(p[i:], n.form) {
				s.mu.Lock()
				s.found[n.name+" in "+where] = true
				s.mu.Unlock()
			}
		}
	}

	if depth == deepest {
		return
	}

	for i := 0; i+3 <= len(p); i++ {
		if in := unpack(p[i:]); len(in) >= 8 {
			s.look(where+", unpacked", in, depth+1)
		}
	}
}

// unpack is what p begins with, when that is compressed; as much of it as can be had.
func unpack(p []byte) []byte {
	var r io.Reader
	var err error
	switch {
	case p[0] == 0x1f && p[1] == 0x8b && p[2] == 8:
		r, err = gzip.NewReader(bytes.NewReader(p))
	case p[0] == 0x78 && bytes.IndexByte([]byte{0x01, 0x5e, 0x9c, 0xda}, p[1]) >= 0: // zlib's four levels
		r, err = zlib.NewReader(bytes.NewReader(p))
	}

	if r == nil || err != nil {
		return nil
	}

	out, _ := io.ReadAll(io.LimitReader(r, 32<<20))
	return out
}

// Tree searches all files below root, their names and where links point; skip leaves out
// files and folders.
func (s *Sweep) Tree(root string, skip func(path string) bool) {
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if skip != nil && skip(p) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}

		s.Look("the name "+p, []byte(p))
		switch {
		case d.Type().IsRegular():
			s.File(p)
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			s.Look("the link "+p, []byte(to))
		}

		return nil
	})
}

// File searches one file.
func (s *Sweep) File(path string) {
	p, err := os.ReadFile(path)
	if err != nil {
		return
	}

	s.mu.Lock()
	s.files++
	s.mu.Unlock()
	s.Look(path, p)
	if bytes.HasPrefix(p, []byte("SQLite format 3\x00")) {
		s.database(path)
	}
}

// database searches the rows: a long value is spread over pages.
func (s *Sweep) database(path string) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return
	}
	defer db.Close()
	for _, table := range rowsOf(db, "SELECT name FROM sqlite_master WHERE type = 'table'") {
		for _, row := range rowsOf(db, `SELECT * FROM "`+strings.ReplaceAll(table, `"`, `""`)+`"`) {
			s.Look(path+", table "+table, []byte(row))
		}
	}
}

// rowsOf are the rows of a query, their columns joined.
func rowsOf(db *sql.DB, query string) (out []string) {
	rows, err := db.Query(query)
	if err != nil {
		return nil
	}
	defer rows.Close()
	names, _ := rows.Columns()
	for rows.Next() {
		cols := make([]any, len(names))
		for i := range cols {
			cols[i] = new(sql.RawBytes)
		}

		if rows.Scan(cols...) != nil {
			return out
		}

		var line []string
		for _, c := range cols {
			line = append(line, string(*c.(*sql.RawBytes)))
		}

		out = append(out, strings.Join(line, "\n"))
	}

	return out
}

// Processes reads the arguments and the environment of every process that this one can see,
// again and again, until stop is called; containers on this machine are seen too. Those in a
// cgroup whose path holds one of except are left out: a program may have its own secret.
func (s *Sweep) Processes(except ...string) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	seed, known := maphash.MakeSeed(), map[uint64]bool{}
	wg.Go(func() {
		for {
			for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
				paths, _ := filepath.Glob(pattern)
				for _, p := range paths {
					group := cgroup(p)
					b, err := os.ReadFile(p)
					if err != nil || len(b) == 0 {
						continue
					}
					if group += cgroup(p); slices.ContainsFunc(except, func(e string) bool { return strings.Contains(group, e) }) {
						continue
					}

					s.mu.Lock()
					s.samples++
					s.mu.Unlock()
					if h := maphash.Bytes(seed, b); !known[h] {
						known[h] = true
						s.Look(filepath.Base(p)+" of a process in "+strings.TrimSpace(group), b)
					}
				}
			}
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// cgroup is the cgroup of the process that a file of /proc is about.
func cgroup(path string) string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
	return string(b)
}
