package objects

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// An index finds objects in a pack: version 2 of git's format. It is read where it lies:
//
//	8       "\377tOc" and the version
//	256×4   how many ids begin with a byte up to this one
//	n×20    ids, sorted
//	n×4     CRC-32 of each entry
//	n×4     offset in the pack; with the highest bit set, number of a long offset
//	m×8     long offsets
//	2×20    SHA-1 of the pack, and of all that stands before
type index struct {
	file   *os.File
	size   int64
	fanout [256]uint32
}

const (
	indexMagic = "\377tOc\x00\x00\x00\x02"
	indexHead  = 8 + 256*4
)

func openIndex(name string) (*index, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}

	x := &index{file: f}
	if err := x.readHead(); err != nil {
		f.Close()
		return nil, fmt.Errorf("index %s: %w", name, err)
	}

	return x, nil
}

func (x *index) readHead() error {
	info, err := x.file.Stat()
	if err != nil {
		return err
	}

	x.size = info.Size()

	var head [indexHead]byte
	if _, err := x.file.ReadAt(head[:], 0); err != nil {
		return damagedEOF(err)
	}

	if string(head[:8]) != indexMagic {
		return broken("it is not of version 2")
	}

	var last uint32
	for i := range x.fanout {
		n := binary.BigEndian.Uint32(head[8+4*i:])
		if n < last {
			return broken("its first table is out of order")
		}
		x.fanout[i], last = n, n
	}

	if x.size < indexHead+28*x.count()+40 {
		return broken("it is cut off")
	}

	return nil
}

func (x *index) count() int64 { return int64(x.fanout[255]) }

func (x *index) close() { x.file.Close() }

// idRange is where ids that begin with a byte stand.
func (x *index) idRange(first byte) (from, to int64) {
	if first > 0 {
		from = int64(x.fanout[first-1])
	}

	return from, int64(x.fanout[first])
}

// find gives the offset of an object in the pack.
func (x *index) find(id plumbing.Hash) (int64, bool, error) {
	const few = 64 // as many ids are read at once
	from, to := x.idRange(id[0])
	for to-from > few {
		middle := from + (to-from)/2
		var got [20]byte
		if _, err := x.file.ReadAt(got[:], indexHead+20*middle); err != nil {
			return 0, false, damagedEOF(err)
		}
		if bytes.Compare(got[:], id[:]) <= 0 {
			from = middle
		} else {
			to = middle
		}
	}

	var ids [few * 20]byte
	part := ids[:20*(to-from)]
	if _, err := x.file.ReadAt(part, indexHead+20*from); err != nil && len(part) > 0 {
		return 0, false, damagedEOF(err)
	}

	for i := 0; i < len(part); i += 20 {
		if bytes.Equal(part[i:i+20], id[:]) {
			at, err := x.offset(from + int64(i/20))
			return at, err == nil, err
		}
	}

	return 0, false, nil
}

// offset is where the object that is the nth by id stands in the pack.
func (x *index) offset(n int64) (int64, error) {
	var b [8]byte
	if _, err := x.file.ReadAt(b[:4], indexHead+24*x.count()+4*n); err != nil {
		return 0, damagedEOF(err)
	}

	short := binary.BigEndian.Uint32(b[:4])
	if short&(1<<31) == 0 {
		return int64(short), nil
	}

	at := indexHead + 28*x.count() + 8*int64(short&^(1<<31))
	if at+8 > x.size {
		return 0, broken("an offset of the index leads nowhere")
	}

	if _, err := x.file.ReadAt(b[:], at); err != nil {
		return 0, damagedEOF(err)
	}

	return int64(binary.BigEndian.Uint64(b[:]) & (1<<63 - 1)), nil
}

// withPrefix lists ids that begin as the hexadecimal text does, at most limit of them.
func (x *index) withPrefix(prefix string, first byte, limit int) ([]plumbing.Hash, error) {
	from, to := x.idRange(first)
	r := bufio.NewReader(io.NewSectionReader(x.file, indexHead+20*from, 20*(to-from)))
	var found []plumbing.Hash
	for ; from < to && len(found) < limit; from++ {
		var id plumbing.Hash
		if _, err := io.ReadFull(r, id[:]); err != nil {
			return nil, damagedEOF(err)
		}
		if id.String()[:len(prefix)] == prefix {
			found = append(found, id)
		}
	}

	return found, nil
}

// writeIndex writes the index of the entries of a pack, which it sorts. An object that stands
// twice in the pack is listed twice, as git does it: both must have one number of objects.
func writeIndex(w io.Writer, entries []packed, pack [20]byte) error {
	slices.SortFunc(entries, func(a, b packed) int { return bytes.Compare(a.id[:], b.id[:]) })

	sum := sha1.New()
	buf := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	buf.WriteString(indexMagic)
	var fanout [256]uint32
	for _, e := range entries {
		fanout[e.id[0]]++
	}

	total := uint32(0)
	for _, n := range fanout {
		total += n
		putUint32(buf, total)
	}

	for _, e := range entries {
		buf.Write(e.id[:])
	}

	for _, e := range entries {
		putUint32(buf, e.crc)
	}

	var long []int64
	for _, e := range entries {
		if e.at < 1<<31 {
			putUint32(buf, uint32(e.at))
			continue
		}
		putUint32(buf, 1<<31|uint32(len(long)))
		long = append(long, e.at)
	}

	for _, at := range long {
		putUint32(buf, uint32(at>>32))
		putUint32(buf, uint32(at))
	}

	buf.Write(pack[:])
	if err := buf.Flush(); err != nil {
		return err
	}

	_, err := w.Write(sum.Sum(nil))
	return err
}

func putUint32(w *bufio.Writer, n uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	w.Write(b[:])
}

// damagedEOF makes of a file that ends too early a damaged one. Other errors tell of the disk
// or of this process.
func damagedEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return broken("it is cut off")
	}

	return err
}
