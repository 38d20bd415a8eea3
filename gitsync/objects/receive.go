package objects

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	githash "github.com/go-git/go-git/v5/plumbing/hash"

	"bellhop/internal/durable"
)

// A packed is what is remembered of one entry of a pack that arrives.
type packed struct {
	at    int64
	size  int64 // of a delta: of what it makes
	id    plumbing.Hash
	crc   uint32
	kind  plumbing.ObjectType
	known bool  // id is set
	data  int64 // where its zlib stream begins
	raw   int64 // bytes of the stream, inflated
	child int32 // first delta that is based on it; -1 is none
	next  int32 // the next delta on the same base
}

// Receive stores a pack in the objects folder dir as it arrives, whole or not at all. It must
// hold whatever its deltas are based on.
//
// First, while it arrives, each entry's size is looked at before it is inflated, and the pack
// lies in a file; nothing is kept of an entry but its id and size. Then the deltas are resolved,
// from each whole object upwards, to learn their ids; the sizes of what they make are looked at
// before that, too.
func Receive(ctx context.Context, dir string, r io.Reader, limits Limits) error {
	limits = limits.withDefaults()
	folder := filepath.Join(dir, "pack")
	f, err := os.CreateTemp(folder, "tmp_pack_")
	if err != nil {
		return fmt.Errorf("store pack: %w", err)
	}

	defer os.Remove(f.Name())
	defer f.Close()

	s := &scan{ctx: ctx, limits: limits, file: f, refs: map[plumbing.Hash][]int32{}}
	s.in = &input{r: r, to: f, sum: sha1.New(), left: limits.Packed, limit: limits.Packed}
	if err := s.read(); err != nil {
		return fmt.Errorf("read pack: %w", err)
	}

	if len(s.entries) == 0 {
		return nil
	}

	s.scratch = scratch{dir: folder, memory: MaxMemory, disk: limits.Scratch}
	defer s.scratch.close()
	if err := s.resolve(); err != nil {
		return fmt.Errorf("resolve deltas: %w", err)
	}

	return s.store(folder)
}

// A scan is one pack on its way in.
type scan struct {
	ctx      context.Context
	limits   Limits
	in       *input
	file     *os.File
	entries  []packed
	refs     map[plumbing.Hash][]int32 // deltas against an id that was not seen yet
	deltas   int
	inflated int64
	sum      [20]byte
	scratch  scratch
}

// read reads the pack to its end.
func (s *scan) read() error {
	var head [12]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return cutOff(err)
	}

	if string(head[:8]) != "PACK\x00\x00\x00\x02" {
		return broken("what arrives is no pack of version 2")
	}

	n := binary.BigEndian.Uint32(head[8:])
	if int64(n) > int64(s.limits.Objects) {
		return over("it holds %d objects: bellhop takes up to %d in one fetch", n, s.limits.Objects)
	}

	s.entries = make([]packed, 0, min(n, 1<<14))
	for range n {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err := s.readEntry(); err != nil {
			return err
		}
	}

	return s.readEnd()
}

func (s *scan) readEntry() error {
	s.in.mark()
	at := s.in.offset()
	e, err := readEntry(s.in, at)
	if err != nil {
		return err
	}

	p := packed{at: at, size: e.size, raw: e.size, kind: e.kind, data: s.in.offset(), child: -1, next: -1}
	if err := s.count(e.size); err != nil {
		return err
	}

	z, err := inflate(s.in, e.size)
	if err != nil {
		return err
	}

	defer z.Close()

	if e.isDelta() {
		err = s.readDelta(&p, z)
	} else {
		err = s.hash(&p, z)
	}

	if err != nil {
		return err
	}

	p.crc = s.in.checksum()
	s.entries = append(s.entries, p)
	if e.isDelta() {
		return s.hang(e)
	}

	return nil
}

// count adds to what was inflated in all.
func (s *scan) count(n int64) error {
	if n > s.limits.Inflated-s.inflated {
		return over("its objects have more than %s together, unpacked", Bytes(s.limits.Inflated))
	}

	s.inflated += n
	return nil
}

// hash finds the id of an object that is whole.
func (s *scan) hash(p *packed, r io.Reader) error {
	h := newHasher(p.kind, p.size)
	if err := copyAll(s.ctx, h, r); err != nil {
		return err
	}

	p.id, p.known = h.id(), true
	return nil
}

// readDelta reads a delta, and of it what it makes.
func (s *scan) readDelta(p *packed, r io.Reader) error {
	buf := byteReader(r)
	_, size, err := deltaHead(buf)
	if err != nil {
		return err
	}

	if err := s.count(size); err != nil {
		return err
	}

	p.size = size
	return copyAll(s.ctx, io.Discard, buf)
}

// hang hangs the newest entry, a delta, below its base.
func (s *scan) hang(e entry) error {
	s.deltas++
	last := int32(len(s.entries) - 1)
	if e.kind == plumbing.REFDeltaObject {
		s.refs[e.ref] = append(s.refs[e.ref], last)
		return nil
	}

	i, found := slices.BinarySearchFunc(s.entries, e.base, func(p packed, at int64) int { return cmpInt(p.at, at) })
	if !found {
		return broken("a delta is based on the middle of an object")
	}

	s.entries[last].next = s.entries[i].child
	s.entries[i].child = last
	return nil
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}

	return 0
}

// readEnd compares the checksum at the end.
func (s *scan) readEnd() error {
	s.in.mark()
	want := s.in.sum.Sum(nil)
	if _, err := io.ReadFull(s.in, s.sum[:]); err != nil {
		return cutOff(err)
	}

	s.in.mark()
	if !bytes.Equal(want, s.sum[:]) {
		return broken("its checksum is wrong")
	}

	return s.in.err
}

// resolve learns the ids of all deltas.
func (s *scan) resolve() error {
	if s.deltas == 0 {
		return nil
	}

	for i := range s.entries {
		p := &s.entries[i]
		if p.kind.IsDelta() || !s.isBase(p) {
			continue
		}
		if err := s.resolveBase(p); err != nil {
			return err
		}
	}

	for i := range s.entries {
		if !s.entries[i].known {
			return broken("a delta is based on an object that the pack does not hold")
		}
	}

	return nil
}

func (s *scan) isBase(p *packed) bool { return p.child >= 0 || len(s.refs[p.id]) > 0 }

// resolveBase resolves what is based on an object that is whole.
func (s *scan) resolveBase(p *packed) error {
	t, err := s.scratch.push(p.size)
	if err != nil {
		return err
	}

	defer t.release()
	if err := s.inflate(p, t); err != nil {
		return err
	}

	return s.resolveChildren(p, p.kind, t.content(), 1)
}

func (s *scan) inflate(p *packed, w io.Writer) error {
	z, err := s.open(p)
	if err != nil {
		return err
	}

	defer z.Close()
	return copyAll(s.ctx, w, z)
}

// open reads the stream of an entry again.
func (s *scan) open(p *packed) (*inflater, error) {
	return inflate(byteReader(io.NewSectionReader(s.file, p.data, s.in.offset()-p.data)), p.raw)
}

// resolveChildren resolves the deltas that are based on p, which holds base.
func (s *scan) resolveChildren(p *packed, kind plumbing.ObjectType, base content, depth int) error {
	if depth > s.limits.Depth {
		return over("an object is more than %d deltas deep", s.limits.Depth)
	}

	for i := p.child; i >= 0; i = s.entries[i].next {
		if err := s.resolveDelta(&s.entries[i], kind, base, depth); err != nil {
			return err
		}
	}

	waiting := s.refs[p.id]
	delete(s.refs, p.id)
	for _, i := range waiting {
		if err := s.resolveDelta(&s.entries[i], kind, base, depth); err != nil {
			return err
		}
	}

	return nil
}

// resolveDelta learns the id of a delta, and then resolves what is based on it.
func (s *scan) resolveDelta(p *packed, kind plumbing.ObjectType, base content, depth int) error {
	var t *slot
	if p.child >= 0 || len(s.refs) > 0 { // something may be based on it
		var err error
		if t, err = s.scratch.push(p.size); err != nil {
			return err
		}
		defer t.release()
	}

	if err := s.patch(p, kind, base, t); err != nil {
		return err
	}

	if t == nil || !s.isBase(p) {
		return nil
	}

	return s.resolveChildren(p, kind, t.content(), depth+1)
}

// patch applies a delta to find the id of what it makes, which is kept in t unless that is nil.
func (s *scan) patch(p *packed, kind plumbing.ObjectType, base content, t *slot) error {
	z, err := s.open(p)
	if err != nil {
		return err
	}

	defer z.Close()
	r := bufio.NewReaderSize(z, 4<<10)
	size, err := checkHead(r, base)
	if err != nil {
		return err
	}

	h := newHasher(kind, size)
	w := io.Writer(h)
	if t != nil {
		w = io.MultiWriter(h, t)
	}

	if err := (&patch{base: base, size: size, delta: r}).apply(s.ctx, w); err != nil {
		return err
	}

	p.id, p.known = h.id(), true
	return nil
}

// store makes the pack and its index durable, and names them.
func (s *scan) store(folder string) error {
	name := filepath.Join(folder, fmt.Sprintf("pack-%x", s.sum))
	idx, err := os.CreateTemp(folder, "tmp_pack_idx_")
	if err != nil {
		return fmt.Errorf("store pack: %w", err)
	}

	defer os.Remove(idx.Name())
	defer idx.Close()
	if err := writeIndex(idx, s.entries, s.sum); err != nil {
		return fmt.Errorf("store pack: %w", err)
	}

	// A pack without its index is looked past, an index without its pack is not.
	if err := durable.Name(s.file, name+".pack", 0o444); err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	if err := durable.Name(idx, name+".idx", 0o444); err != nil {
		return fmt.Errorf("store pack: %w", err)
	}

	return nil
}

// A hasher makes the id of an object. It is git's own kind of SHA-1, which knows the pieces
// that known collisions are made of.
type hasher struct{ h githash.Hash }

func newHasher(kind plumbing.ObjectType, size int64) hasher {
	h := hasher{githash.New(githash.CryptoType)}
	fmt.Fprintf(h.h, "%s %d\x00", kind, size)
	return h
}

func (h hasher) Write(p []byte) (int, error) { return h.h.Write(p) }

func (h hasher) id() plumbing.Hash { return plumbing.Hash(h.h.Sum(nil)) }
