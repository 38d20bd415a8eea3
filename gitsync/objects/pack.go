package objects

import (
	"bytes"
	"io"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// A pack is one pack file and its index, open.
type pack struct {
	name string
	file *os.File
	size int64 // without the checksum at its end
	idx  *index
}

// An entry is one object as it stands in a pack.
type entry struct {
	pack *pack
	at   int64
	kind plumbing.ObjectType // a delta has a kind of its own
	size int64               // inflated: of the object, or of the delta
	data int64               // where its zlib stream begins
	base int64               // of a delta against an earlier entry: where that stands
	ref  plumbing.Hash       // of a delta against an id
}

func (e entry) isDelta() bool { return e.kind.IsDelta() }

// openPack opens the pack of an index.
func openPack(indexFile string) (*pack, error) {
	name := strings.TrimSuffix(indexFile, ".idx") + ".pack"
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}

	p := &pack{name: name, file: f}
	info, err := f.Stat()
	if err == nil {
		p.size = info.Size() - 20
		p.idx, err = openIndex(indexFile)
	}

	if err == nil {
		var head [4]byte
		if _, err = f.ReadAt(head[:], 0); err != nil || string(head[:]) != "PACK" {
			err = broken("pack %s does not begin as a pack does", name)
		}
	}

	if err != nil {
		p.close()
		return nil, err
	}

	return p, nil
}

func (p *pack) close() {
	p.file.Close()
	if p.idx != nil {
		p.idx.close()
	}
}

// entry reads the head of an entry.
func (p *pack) entry(at int64) (entry, error) {
	if at < 12 || at >= p.size {
		return entry{}, broken("pack %s has no entry at %d", p.name, at)
	}

	var buf [48]byte
	n, err := p.file.ReadAt(buf[:min(int64(len(buf)), p.size-at)], at)
	if err != nil && err != io.EOF {
		return entry{}, err
	}

	r := bytes.NewReader(buf[:n])
	e, err := readEntry(r, at)
	if err != nil {
		return entry{}, err
	}

	e.pack, e.data = p, at+int64(n-r.Len())
	return e, nil
}

// readEntry reads the head of the entry at an offset.
//
// Of the first byte three bits are the kind and four the lowest of the size; each further byte
// adds seven, as long as its highest bit is set. A delta's base follows: an id, or how far back
// it stands.
func readEntry(r byteAndReader, at int64) (entry, error) {
	c, err := r.ReadByte()
	if err != nil {
		return entry{}, cutOff(err)
	}

	e := entry{at: at, kind: plumbing.ObjectType(c >> 4 & 7), size: int64(c & 15)}
	for shift := 4; c&0x80 != 0; shift += 7 {
		if shift > 53 {
			return entry{}, broken("an entry tells a size that no object has")
		}
		if c, err = r.ReadByte(); err != nil {
			return entry{}, cutOff(err)
		}
		e.size |= int64(c&0x7f) << shift
	}

	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return e, nil
	case plumbing.REFDeltaObject:
		_, err = io.ReadFull(r, e.ref[:])
		return e, cutOff(err)
	case plumbing.OFSDeltaObject:
		e.base, err = readBack(r, at)
		return e, err
	}

	return entry{}, broken("an entry has the unknown kind %d", e.kind)
}

type byteAndReader interface {
	io.Reader
	io.ByteReader
}

// readBack reads how far back the base of a delta stands.
func readBack(r io.ByteReader, at int64) (int64, error) {
	var back int64
	for i := 0; ; i++ {
		c, err := r.ReadByte()
		if err != nil {
			return 0, cutOff(err)
		}
		if i > 7 {
			return 0, broken("a delta leads out of its pack")
		}
		if i > 0 {
			back++
		}
		back = back<<7 | int64(c&0x7f)
		if c&0x80 == 0 {
			break
		}
	}

	if back <= 0 || back > at-12 {
		return 0, broken("a delta leads out of its pack")
	}

	return at - back, nil
}

func cutOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return broken("a pack is cut off")
	}

	return err
}

// open begins to read the zlib stream of an entry.
func (e entry) open() (*inflater, error) {
	return inflate(byteReader(io.NewSectionReader(e.pack.file, e.data, e.pack.size-e.data)), e.size)
}
