// Package wire has what crosses between the deployer and the process that loads for it.
//
// It is one type, Message. The deployer asks (load, bundle, text, key, readers, files), and while it waits
// the loader asks back for what it needs of the tree (list, stat, lstat, link, read, hash) and of the
// secrets (open, digest, seal). Each ask has one answer, and nothing is asked while another waits.
//
// A load is answered by what differs from the fleet that the deployer names as the one it has: for each
// host that changed its facts, and whether its bundle may differ. A bundle is answered by its digest
// and, if the deployer lacks it, by the entries that changed since the one that the host had.
//
// The loader has worked on a stranger's files, so the deployer reads its words as those of a stranger:
// frames are capped, the parts of one are counted before any is made, and numbers are looked at before
// they are used.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/tree"
)

// The asks of the deployer.
const (
	OpLoad    = "load"    // Since, Hashed → Fleet, Head, Count, Was, Hosts; or Problems
	OpBundle  = "bundle"  // Fleet, At, Arch, Full → Kind, Composition; or Problems
	OpText    = "text"    // Fleet, At, Digest → data
	OpKey     = "key"     // Fleet, At, Arch, Digest (of the bundle), Name → data
	OpReaders = "readers" // → Readers; or Problems
	OpFiles   = "files"   // Fleet → KeyFiles
	OpReaches = "reaches" // → Names: what the process can reach although it should not
)

// The asks of the loader.
const (
	opList   = "list"   // Path → Entries
	opStat   = "stat"   // Path → Mode, Size; follows links
	opLstat  = "lstat"  // Path → Mode, Size
	opLink   = "link"   // Path → Path
	opRead   = "read"   // Path → data
	opHash   = "hash"   // Path → Digest
	OpOpen   = "open"   // Path → data: the plaintext of a secret that a template names
	OpDigest = "digest" // Path → Digest of the secret, keyed
	OpSeal   = "seal"   // data → Digest of it, keyed: what a template made of secrets
)

const OpAnswer = "answer"

// A Message is one ask or one answer.
type Message struct {
	Op      string
	Path    string   `json:",omitempty"`
	Odd     []byte   `json:",omitempty"` // Path, where it is not UTF-8
	Name    string   `json:",omitempty"`
	Names   []string `json:",omitempty"`
	Digest  string   `json:",omitempty"`
	Arch    string   `json:",omitempty"`
	Fleet   int      `json:",omitempty"` // number of a fleet in this loader
	Since   int      `json:",omitempty"`
	At      int      `json:",omitempty"` // index of a host
	Hashed  bool     `json:",omitempty"` // the tree knows hashes
	Full    bool     `json:",omitempty"` // no entries by difference
	Partial bool     `json:",omitempty"` // also of services that can't be made
	Offline bool     `json:",omitempty"` // no secret is opened
	Former  bool     `json:",omitempty"` // as Loader.Former
	CPU     int64    `json:",omitempty"` // ms of processor time that the loader took in its life

	Error    string           `json:",omitempty"`
	Invalid  bool             `json:",omitempty"` // Error is fs.ErrInvalid: what is wrong with the commit itself
	Missing  bool             `json:",omitempty"` // Error is fs.ErrNotExist
	TooLarge bool             `json:",omitempty"` // Error is errTooLarge
	Problems problem.Problems `json:",omitempty"`
	OddFiles map[int][]byte   `json:",omitempty"` // File of Problems, where it is not UTF-8

	Entries []entry `json:",omitempty"`
	Mode    uint32  `json:",omitempty"` // fs.FileMode
	Size    int64   `json:",omitempty"`

	Head  *Head  `json:",omitempty"`
	Count int    `json:",omitempty"` // of hosts
	Was   []int  `json:",omitzero"`  // for each host, its index in Since, or -1; nil: the same list
	Hosts []Host `json:",omitempty"` // those that differ

	Kind        int          `json:",omitempty"` // number of a composition in its fleet
	Composition *Composition `json:",omitempty"`

	Readers  *inventory.Readers `json:",omitempty"`
	KeyFiles []KeyFile          `json:",omitempty"`

	Data []byte `json:"-"` // bytes as they are; behind the message in its frame
}

// A Head is a fleet less its hosts.
type Head struct {
	Network  string
	Deployer string
	Rollout  inventory.Rollout
	Confirm  time.Duration
	Look     time.Duration
	Isolate  bool
	Notify   []inventory.Notify `json:",omitempty"`

	Registries []inventory.Registry `json:",omitempty"`

	Warnings []problem.Problem
	Readers  inventory.Readers
}

// A KeyFile is one age file that a key's value comes from.
type KeyFile struct {
	Service string
	Key     string   // its name below /run/keys
	Source  string   // as service.yaml has it: may hold {host} and settings
	File    string   // in the repo
	Hosts   []string // that are sent the key made from this file, sorted; nil when no host has the service on
}

// A entry is one name of a folder.
type entry struct {
	Name string `json:",omitempty"`
	Odd  []byte `json:",omitempty"` // Name, where it is not UTF-8
	Mode uint32
	Hash string `json:",omitempty"`
}

// A Host is a host that differs from the one before.
type Host struct {
	At       int
	Host     *inventory.Host `json:",omitempty"` // nil: its facts are the same
	Changed  bool            `json:",omitempty"` // its bundle may differ
	AsksArch bool            `json:",omitempty"`
}

// A Composition is what hosts of one kind hold: a digest, and the manifest, whole or less the files that
// are the same in another one that the deployer has.
type Composition struct {
	Digest   string
	Base     string `json:",omitempty"` // digest of that other one
	Manifest bundle.Manifest
	Gone     []string              `json:",omitempty"` // paths of files of Base that are not in this one
	Content  []Content             `json:",omitempty"` // beside that of Base
	Keys     []Key                 `json:",omitempty"`
	Needs    []service.SystemdNeed `json:",omitempty"`
	Broken   []render.Broken       `json:",omitempty"`
}

// A Content says where the bytes of a file come from: a file of the repo, or a text that is asked for.
type Content struct {
	Digest string
	Source string `json:",omitempty"`
}

// A Key says what a key's value comes from.
type Key struct {
	Name    string
	Source  string
	Sources []string
	Made    bool   `json:",omitempty"` // by a template
	Text    string `json:",omitempty"` // the file of that template
}

// Bounds on one frame.
const (
	maxWireHead = 64 << 20
	maxWireData = tree.MaxFile + 1
	MaxList     = 4_000_000 // parts of JSON in one
)

var ErrBroken = errors.New("the loader said what nobody can read")

// A Conn is one end of the two pipes. Nothing is buffered: what passes may be secret.
type Conn struct {
	R io.Reader
	W io.Writer
}

func (c *Conn) Send(m *Message) error {
	head, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(head) > maxWireHead || len(m.Data) > maxWireData {
		return fmt.Errorf("a message of %d bytes is too large", len(head)+len(m.Data))
	}

	frame := make([]byte, 8, 8+len(head))
	binary.BigEndian.PutUint32(frame, uint32(len(head)))
	binary.BigEndian.PutUint32(frame[4:], uint32(len(m.Data)))
	if _, err := c.W.Write(append(frame, head...)); err != nil {
		return err
	}
	if len(m.Data) > 0 {
		_, err = c.W.Write(m.Data)
	}
	return err
}

func (c *Conn) Receive() (*Message, error) {
	var size [8]byte
	if _, err := io.ReadFull(c.R, size[:]); err != nil {
		return nil, err
	}
	nHead, nData := binary.BigEndian.Uint32(size[:]), binary.BigEndian.Uint32(size[4:])
	if nHead > maxWireHead || nData > maxWireData {
		return nil, ErrBroken
	}

	head, err := readN(c.R, int(nHead))
	if err != nil {
		return nil, err
	}
	if jsonParts(head) > MaxList {
		return nil, ErrBroken
	}
	m := &Message{}
	if err := json.Unmarshal(head, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if m.Data, err = readN(c.R, int(nData)); err != nil {
		return nil, err
	}
	return m, nil
}

// readN reads n bytes, and takes memory only as they come.
func readN(r io.Reader, n int) ([]byte, error) {
	if n <= 1<<20 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}

	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// jsonParts counts what can become a value of its own: `{}` in a list is two bytes, and a struct.
func jsonParts(head []byte) int {
	return bytes.Count(head, []byte{','}) + bytes.Count(head, []byte{'{'}) + bytes.Count(head, []byte{'['})
}

// Fail makes m the answer of an error.
func (m *Message) Fail(err error) {
	m.Error = err.Error()
	m.Missing = errors.Is(err, fs.ErrNotExist)
	m.Invalid = errors.Is(err, fs.ErrInvalid)
	m.TooLarge = errors.Is(err, tree.ErrTooLarge)
}

// A farError is an error of the other side.
type farError struct {
	text string
	is   error // nil, or the error that it was on the other side
}

func (e *farError) Error() string { return e.text }
func (e *farError) Unwrap() error { return e.is }

// Err is the error that m answers with, if it does.
func (m *Message) Err() error {
	switch {
	case len(m.Problems) > 0:
		for i, file := range m.OddFiles {
			if i >= 0 && i < len(m.Problems) {
				m.Problems[i].File = string(file)
			}
		}
		return m.Problems

	case m.Error == "":
		return nil
	case m.TooLarge:
		return tree.ErrTooLarge
	case m.Missing:
		return &farError{m.Error, fs.ErrNotExist}
	case m.Invalid:
		return &farError{m.Error, fs.ErrInvalid}
	}
	return &farError{m.Error, nil}
}

func (m *Message) SetProblems(ps problem.Problems) {
	m.Problems = ps
	for i, p := range ps {
		if !utf8.ValidString(p.File) {
			if m.OddFiles == nil {
				m.OddFiles = map[int][]byte{}
			}
			m.OddFiles[i] = []byte(p.File)
		}
	}
}

func (m *Message) setPath(p string) {
	if m.Path = p; !utf8.ValidString(p) {
		m.Path, m.Odd = "", []byte(p)
	}
}

func (m *Message) PathName() string {
	if len(m.Odd) > 0 {
		return string(m.Odd)
	}
	return m.Path
}
