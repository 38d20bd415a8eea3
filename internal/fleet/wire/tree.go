package wire

import (
	"bytes"
	"io/fs"
	"path"
	"time"
	"unicode/utf8"

	"bellhop/internal/fleet/tree"
)

// A farTree is a tree that the deployer reads for the loader. What a folder holds is asked once.
type farTree struct {
	ask   func(*Message) (*Message, error)
	lists map[string][]fs.DirEntry
	names map[string]farInfo // of every list
}

// A hashedTree is one whose files and folders have hashes.
type hashedTree struct{ *farTree }

func NewTree(ask func(*Message) (*Message, error), hashed bool) fs.FS {
	t := &farTree{ask: ask}
	t.Forget()
	if hashed {
		return hashedTree{t}
	}
	return t
}

// Forget drops what was listed; a load is over.
func (t *farTree) Forget() {
	t.lists, t.names = map[string][]fs.DirEntry{}, map[string]farInfo{}
}

func (t *farTree) do(op, name string) (*Message, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	m := &Message{Op: op}
	m.setPath(name)
	return t.ask(m)
}

// Hash is the hash of a file or folder.
func (t hashedTree) Hash(name string) (string, bool) {
	if i, ok := t.names[name]; ok && i.hash != "" {
		return i.hash, true
	}
	a, err := t.do(opHash, name)
	return DigestOf(a), err == nil && DigestOf(a) != ""
}

func DigestOf(m *Message) string {
	if m == nil {
		return ""
	}
	return m.Digest
}

// ReadDir lists a folder.
func (t *farTree) ReadDir(name string) ([]fs.DirEntry, error) {
	if l, ok := t.lists[name]; ok {
		return l, nil
	}
	a, err := t.do(opList, name)
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, len(a.Entries))
	for i, e := range a.Entries {
		info := farInfo{name: e.Name, mode: fs.FileMode(e.Mode), hash: e.Hash}
		if len(e.Odd) > 0 {
			info.name = string(e.Odd)
		}
		out[i] = fs.FileInfoToDirEntry(info)
		t.names[path.Join(name, info.name)] = info
	}

	t.lists[name] = out
	return out, nil
}

// Lstat follows no link at the end of name.
func (t *farTree) Lstat(name string) (fs.FileInfo, error) {
	if i, ok := t.names[name]; ok {
		return i, nil
	}
	return t.info(opLstat, name)
}

// Stat follows links.
func (t *farTree) Stat(name string) (fs.FileInfo, error) { return t.info(opStat, name) }

func (t *farTree) info(op, name string) (fs.FileInfo, error) {
	a, err := t.do(op, name)
	if err != nil {
		return nil, err
	}
	return farInfo{name: path.Base(name), mode: fs.FileMode(a.Mode), size: a.Size}, nil
}

// ReadLink is where a link points.
func (t *farTree) ReadLink(name string) (string, error) {
	a, err := t.do(opLink, name)
	if err != nil {
		return "", err
	}
	return a.PathName(), nil
}

// Open reads a file whole.
func (t *farTree) Open(name string) (fs.File, error) {
	a, err := t.do(opRead, name)
	if err != nil {
		return nil, err
	}
	return &farFile{Reader: bytes.NewReader(a.Data), info: farInfo{name: path.Base(name), mode: fs.FileMode(a.Mode), size: int64(len(a.Data))}}, nil
}

type farFile struct {
	*bytes.Reader
	info farInfo
}

func (f *farFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *farFile) Close() error               { return nil }

type farInfo struct {
	name string
	mode fs.FileMode
	size int64
	hash string
}

func (i farInfo) Name() string       { return i.name }
func (i farInfo) Size() int64        { return i.size }
func (i farInfo) Mode() fs.FileMode  { return i.mode }
func (i farInfo) ModTime() time.Time { return time.Time{} }
func (i farInfo) IsDir() bool        { return i.mode.IsDir() }
func (i farInfo) Sys() any           { return nil }

// ServeTree answers what the loader asks of a tree. It is the deployer's side.
func ServeTree(t fs.FS, m *Message) *Message {
	a := &Message{Op: OpAnswer}
	name := m.PathName()
	if !fs.ValidPath(name) {
		a.Fail(fs.ErrInvalid)
		return a
	}

	var err error
	switch m.Op {
	case opList:
		a.Entries, err = listTree(t, name)
	case opStat, opLstat:
		var info fs.FileInfo
		if m.Op == opStat {
			info, err = fs.Stat(t, name)
		} else {
			info, err = fs.Lstat(t, name)
		}
		if err == nil {
			a.Mode, a.Size = uint32(info.Mode()), info.Size()
		}

	case opLink:
		var to string
		if to, err = fs.ReadLink(t, name); err == nil {
			a.setPath(to)
		}

	case opRead:
		a.Data, err = tree.ReadFile(t, name)
	case opHash:
		if h, ok := t.(tree.Hasher); ok {
			a.Digest, _ = h.Hash(name)
		}

	default:
		err = ErrBroken
	}

	if err != nil {
		a.Fail(err)
	}
	return a
}

// listTree lists a folder with its hashes, so that the loader need not ask for each.
func listTree(t fs.FS, dir string) ([]entry, error) {
	des, err := fs.ReadDir(t, dir)
	if err != nil {
		return nil, err
	}
	des = des[:min(len(des), tree.MaxEntries+1)] // the loader's budget ends there
	h, _ := t.(tree.Hasher)
	out := make([]entry, len(des))
	for i, de := range des {
		e := entry{Name: de.Name(), Mode: uint32(de.Type())}
		if de.Type().IsRegular() {
			info, err := de.Info()
			if err != nil {
				return nil, err
			}
			e.Mode = uint32(info.Mode())
		}

		if h != nil {
			e.Hash, _ = h.Hash(path.Join(dir, de.Name()))
		}
		if !utf8.ValidString(e.Name) {
			e.Name, e.Odd = "", []byte(e.Name)
		}
		out[i] = e
	}

	return out, nil
}
