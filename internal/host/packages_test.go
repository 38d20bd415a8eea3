package host_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/host/packages"
)

// An entry is one of an archive: a file, unless kind, which is one of tar's, says else.
type entry struct {
	name, text, link string
	mode             int64
	kind             byte
}

// archive makes one of the kind tar.gz or zip.
func archive(t testing.TB, kind string, es ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	if kind == "zip" {
		writeZip(t, &buf, es)
		return buf.Bytes()
	}
	z := gzip.NewWriter(&buf)
	writeTar(t, z, es)
	z.Close()
	return buf.Bytes()
}

func writeTar(t testing.TB, out io.Writer, es []entry) {
	w := tar.NewWriter(out)
	for _, e := range es {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: tar.TypeReg, Linkname: e.link}
		if e.kind != 0 {
			h.Typeflag, h.Size = e.kind, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, e.text)
		}
	}
	w.Close()
}

// zipModes are the kinds that a zip can say.
var zipModes = map[byte]fs.FileMode{tar.TypeDir: fs.ModeDir, tar.TypeSymlink: fs.ModeSymlink, tar.TypeChar: fs.ModeDevice | fs.ModeCharDevice,
	tar.TypeBlock: fs.ModeDevice, tar.TypeFifo: fs.ModeNamedPipe}

func writeZip(t testing.TB, out io.Writer, es []entry) {
	w := zip.NewWriter(out)
	for _, e := range es {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(e.mode&0o777) | zipModes[e.kind]
		if e.mode&0o4000 != 0 {
			mode |= fs.ModeSetuid | fs.ModeSetgid
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.text+e.link)
	}
	w.Close()
}

var kinds = []string{"tar.gz", "zip"}

// What comes out of an archive is the same by either kind.
func TestPackages(t *testing.T) {
	for _, tt := range []struct {
		name string
		es   []entry
		want map[string]string // path to mode and text, or "-> target"
	}{
		{"modes", []entry{{name: "p/x", text: "x", mode: 0o700}, {name: "p/d/y", text: "y", mode: 0o600}, {name: "p/su", text: "s", mode: 0o6711}},
			map[string]string{"x": "755 x", "d": "dir", "d/y": "644 y", "su": "755 s"}},
		{"nothing above the first folder", []entry{{name: "README", text: "x"}, {name: "p/", kind: tar.TypeDir}, {name: "p/e/", kind: tar.TypeDir}, {name: "./p//x", text: "x"}},
			map[string]string{"e": "dir", "x": "644 x"}},
		{"links inside", []entry{{name: "p/lib/bot", text: "b", mode: 0o755}, {name: "p/bin/bot", link: "../lib/bot", kind: tar.TypeSymlink}, {name: "p/later", link: "gone", kind: tar.TypeSymlink}},
			map[string]string{"lib": "dir", "lib/bot": "755 b", "bin": "dir", "bin/bot": "-> ../lib/bot", "later": "-> gone"}},
		{"a name twice", []entry{{name: "p/x", text: "first", mode: 0o755}, {name: "p/x", text: "second"}}, map[string]string{"x": "644 second"}},
		{"a file where a link is", []entry{{name: "p/y", text: "kept"}, {name: "p/x", link: "y", kind: tar.TypeSymlink}, {name: "p/x", text: "second"}},
			map[string]string{"x": "644 second", "y": "644 kept"}},
		{"a link where a file is", []entry{{name: "p/y", text: "kept"}, {name: "p/x", text: "first"}, {name: "p/x", link: "y", kind: tar.TypeSymlink}},
			map[string]string{"x": "-> y", "y": "644 kept"}},
	} {
		for _, kind := range kinds {
			t.Run(tt.name+" in "+kind, func(t *testing.T) {
				b := newBox(t)
				b.deploy(bot("one").pack("bot", archive(t, kind, tt.es...), kind), bundle.OutcomeDone)
				if diff := cmp.Diff(tt.want, unpacked(t, b.path("/opt/bellhop/bot"))); diff != "" {
					t.Errorf("the package (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// unpacked reads a tree below dir, which may be a link.
func unpacked(t testing.TB, dir string) map[string]string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		at, _ := filepath.Rel(dir, p)
		st, err := d.Info()
		switch {
		case err != nil:
		case st.IsDir():
			got[at] = "dir"
		case st.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			got[at] = "-> " + target
		default:
			text, _ := os.ReadFile(p)
			got[at] = fmt.Sprintf("%o %s", uint32(st.Mode()), text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPackagesThatLeaveAreRefused(t *testing.T) {
	many := make([]entry, 21)
	for i := range many {
		many[i] = entry{name: "p/d/", kind: tar.TypeDir}
	}
	for _, tt := range []struct {
		name string
		es   []entry
		want string
	}{
		{"dotdot", []entry{{name: "p/../../x", text: "x"}}, "leaves the package"},
		{"dotdot above the first folder", []entry{{name: "../x", text: "x"}}, "leaves the package"},
		{"a folder by dotdot", []entry{{name: "p/../../d/", kind: tar.TypeDir}}, "leaves the package"},
		{"absolute", []entry{{name: "/p/x", text: "x"}}, "leaves the package"},
		{"link", []entry{{name: "p/x", link: "../../../etc/passwd", kind: tar.TypeSymlink}}, "link x leaves the package"},
		{"link just outside", []entry{{name: "p/x", link: "../y", kind: tar.TypeSymlink}}, "link x leaves the package"},
		{"absolute link", []entry{{name: "p/x", link: "/etc/passwd", kind: tar.TypeSymlink}}, "link x leaves the package"},
		{"two links", []entry{{name: "p/a/b", link: "..", kind: tar.TypeSymlink}, {name: "p/c", link: "a/b/..", kind: tar.TypeSymlink}, {name: "p/d", link: "c/../../x", kind: tar.TypeSymlink}}, "leaves the package"},
		{"two links that leave together", []entry{{name: "p/a/b/c", link: "../..", kind: tar.TypeSymlink}, {name: "p/x", link: "a/b/c/../y", kind: tar.TypeSymlink}}, "link x"},
		{"through", []entry{{name: "p/x", link: "y", kind: tar.TypeSymlink}, {name: "p/y", link: "../..", kind: tar.TypeSymlink}}, "leaves the package"},
		{"a file through links that leave", []entry{{name: "p/a/b/c", link: "../..", kind: tar.TypeSymlink}, {name: "p/up", link: "a/b/c/..", kind: tar.TypeSymlink}, {name: "p/up/x", text: "x"}}, "escapes"},
		{"links in a ring", []entry{{name: "p/x", link: "y", kind: tar.TypeSymlink}, {name: "p/y", link: "x", kind: tar.TypeSymlink}}, "link x"},
		{"a file where a folder is", []entry{{name: "p/d/x", text: "x"}, {name: "p/d", text: "x"}}, "d"},
		{"a folder where a file is", []entry{{name: "p/d", text: "x"}, {name: "p/d/x", text: "x"}}, "d"},
		{"device", []entry{{name: "p/x", kind: tar.TypeChar}}, "is a device, a pipe or worse"},
		{"pipe", []entry{{name: "p/x", kind: tar.TypeFifo}}, "is a device, a pipe or worse"},
		{"hard link", []entry{{name: "p/x", link: "p/../../y", kind: tar.TypeLink}}, "link x leaves the package"},
		{"hard link to a link", []entry{{name: "p/y", link: "z", kind: tar.TypeSymlink}, {name: "p/x", link: "p/y", kind: tar.TypeLink}}, "link x to no file of the package"},
		{"too much", []entry{{name: "p/x", text: strings.Repeat("x", 600)}, {name: "p/y", text: strings.Repeat("y", 401)}}, "more than 1000 bytes unpacked"},
		{"too much of one name", []entry{{name: "p/x", text: strings.Repeat("x", 600)}, {name: "p/x", text: strings.Repeat("y", 401)}}, "more than 1000 bytes unpacked"},
		{"too many", many, "more than 20 entries"},
		{"a folder too deep", []entry{{name: "p/" + strings.Repeat("d/", 2048), kind: tar.TypeDir}}, "is too long"},
	} {
		for _, kind := range kinds {
			if kind == "zip" && len(tt.es) > 0 && tt.es[len(tt.es)-1].kind == tar.TypeLink {
				continue // a zip has no hard links
			}
			t.Run(tt.name+" in "+kind, func(t *testing.T) {
				b := newBox(t)
				b.m.Caps = packages.Caps{Bytes: 1000, Entries: 20}
				before := b.all()
				got := b.deploy(bot("one").pack("bot", archive(t, kind, tt.es...), kind), bundle.OutcomeRefused)
				if !strings.Contains(got.res.Error, tt.want) {
					t.Errorf("refused by %q, want %q in it", got.res.Error, tt.want)
				}
				b.compare(before, "after a bad archive")
				filepath.WalkDir(b.path("/opt"), func(p string, d os.DirEntry, err error) error {
					if !d.Type().IsDir() {
						t.Errorf("%s was left", p)
					}
					return nil
				})
			})
		}
	}
}

// What just fits is unpacked.
func TestPackageAtTheCaps(t *testing.T) {
	for _, kind := range kinds {
		b := newBox(t)
		b.m.Caps = packages.Caps{Bytes: 1000, Entries: 2}
		b.deploy(bot("one").pack("bot", archive(t, kind, entry{name: "p/x", text: strings.Repeat("x", 600)}, entry{name: "p/y", text: strings.Repeat("y", 400)}), kind), bundle.OutcomeDone)
	}
}

// FuzzUnpack unpacks whatever a stranger may serve. What comes of it is a package whose links stay
// inside and whose files are plain and within the caps, or an error and nothing; and nothing
// beside it is touched. A tar is packed here: by itself the fuzzer would hardly get past gzip.
func FuzzUnpack(f *testing.F) {
	seeds := [][]entry{
		{{name: "p/bin/bot", text: "#!/bin/sh", mode: 0o755}, {name: "p/x", link: "bin/bot", kind: tar.TypeSymlink}},
		{{name: "p/a/b/c", link: "../..", kind: tar.TypeSymlink}, {name: "p/up", link: "a/b/c/..", kind: tar.TypeSymlink}, {name: "p/up/x", text: "x"}},
		{{name: "p/d/", kind: tar.TypeDir}, {name: "p/../../x", text: "x"}, {name: "/p/x", text: "x"}},
	}
	for _, es := range seeds {
		var raw bytes.Buffer
		writeTar(f, &raw, append(es, entry{name: "p/hard", link: es[0].name, kind: tar.TypeLink}))
		f.Add(false, byte(1), raw.Bytes())
		f.Add(true, byte(1), archive(f, "zip", es...))
	}
	caps := packages.Caps{Bytes: 1 << 20, Entries: 200}
	dir := f.TempDir()
	file := filepath.Join(dir, "archive")
	store := filepath.Join(dir, "store")
	f.Fuzz(func(t *testing.T, zipped bool, strip byte, data []byte) {
		p := bundle.Package{Name: "bot", Digest: "d", Kind: "zip", Strip: int(strip % 4)}
		if !zipped {
			p.Kind = "tar.gz"
			var buf bytes.Buffer
			z, _ := gzip.NewWriterLevel(&buf, gzip.NoCompression)
			z.Write(data)
			z.Close()
			data = buf.Bytes()
		}
		if err := errors.Join(os.RemoveAll(store), os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := unpackInto(store, caps, p, file)
		in, _ := os.ReadDir(store)
		switch {
		case err != nil && len(in) > 0:
			t.Errorf("%v, and %s is left", err, in[0].Name())
		case err == nil && (len(in) != 1 || in[0].Name() != packages.Name(p)):
			t.Fatalf("the store holds %v, want %s", in, packages.Name(p))
		}
		if all, _ := os.ReadDir(dir); len(all) != 2 {
			t.Errorf("beside the host there is %v", all)
		}
		if err == nil {
			plainTree(t, filepath.Join(store, in[0].Name()))
		}
	})
}

// plainTree wants nothing below dir that could harm whoever uses it.
func plainTree(t *testing.T, dir string) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	size, seen := int64(0), map[uint64]bool{} // a file may have several names
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		at, _ := filepath.Rel(dir, p)
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch st.Mode().Type() {
		case fs.ModeDir:
		case fs.ModeSymlink:
			if _, err := root.Stat(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("link %s: %v", at, err)
			}
		case 0:
			if ino := st.Sys().(*syscall.Stat_t).Ino; !seen[ino] {
				seen[ino] = true
				size += st.Size()
			}
			if st.Mode() != 0o644 && st.Mode() != 0o755 {
				t.Errorf("%s has mode %v", at, st.Mode())
			}
		default:
			t.Errorf("%s is %v", at, st.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if size > 1<<20 {
		t.Errorf("%d bytes came out", size)
	}
}
