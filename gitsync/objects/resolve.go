package objects

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
)

// How many bytes the results of one object's deltas may have together: fifty versions of the
// largest file that is read, and more for what is only copied.
const (
	maxReadChain = 2 << 30
	maxCopyChain = 16 << 30
)

// copy writes an object's bytes.
func (db *DB) copy(ctx context.Context, w io.Writer, o *object, most int64) error {
	if o.loose != nil {
		return copyAll(ctx, w, o.loose)
	}

	if len(o.chain) == 1 {
		return inflateTo(ctx, w, o.chain[0])
	}

	s := &scratch{dir: db.temp, memory: MaxMemory, disk: 4 << 30}
	defer s.close()
	base, last, n, err := db.lowest(ctx, s, o)
	if err != nil {
		return err
	}

	var sum int64
	for ; n > 0; n-- {
		next, err := db.patch(ctx, s, o.chain[n], base)
		if err != nil {
			return err
		}
		if sum += next.size; sum > most {
			return over("its deltas make more than %s", Bytes(most))
		}
		if last != nil {
			s.forget(last)
		}
		base, last = next.content(), next
		db.remember(o.chain[n], next)
	}

	return db.patchTo(ctx, w, o.chain[0], base)
}

// lowest is the content of the deepest entry that is not at hand, and the number of the delta
// above it; the entry with number 0 is the object itself.
func (db *DB) lowest(ctx context.Context, s *scratch, o *object) (content, *slot, int, error) {
	for n := 1; n < len(o.chain); n++ {
		if b, ok := db.bases.Get(db.key(o.chain[n])); ok {
			return bytes.NewReader(b), nil, n - 1, nil
		}
	}

	bottom := len(o.chain) - 1
	e := o.chain[bottom]
	t, err := s.push(e.size)
	if err != nil {
		return nil, nil, 0, err
	}

	if err := inflateTo(ctx, t, e); err != nil {
		return nil, nil, 0, err
	}

	db.remember(e, t)
	return t.content(), t, bottom - 1, nil
}

// key names an entry among those of all packs.
func (db *DB) key(e entry) int64 {
	return int64(slices.Index(db.packs, e.pack))<<48 | e.at
}

// remember keeps a small content for other deltas on the same base.
func (db *DB) remember(e entry, t *slot) {
	const small = 1 << 20
	if b, ok := t.bytes(); ok && len(b) <= small {
		db.bases.Put(db.key(e), b)
	}
}

// patch makes a content of a delta and its base.
func (db *DB) patch(ctx context.Context, s *scratch, e entry, base content) (*slot, error) {
	d, err := e.open()
	if err != nil {
		return nil, err
	}

	defer d.Close()
	r := byteReader(d)
	size, err := checkHead(r, base)
	if err != nil {
		return nil, err
	}

	t, err := s.push(size)
	if err != nil {
		return nil, err
	}

	return t, (&patch{base: base, size: size, delta: r}).apply(ctx, t)
}

// patchTo is patch that writes what it makes.
func (db *DB) patchTo(ctx context.Context, w io.Writer, e entry, base content) error {
	d, err := e.open()
	if err != nil {
		return err
	}

	defer d.Close()
	r := byteReader(d)
	size, err := checkHead(r, base)
	if err != nil {
		return err
	}

	return (&patch{base: base, size: size, delta: r}).apply(ctx, w)
}

// checkHead reads a delta's head, and the size of what it makes.
func checkHead(r io.ByteReader, base content) (int64, error) {
	of, size, err := deltaHead(r)
	if err == nil && of != base.Size() {
		err = broken("a delta is for a base of %d bytes, which has %d", of, base.Size())
	}

	return size, err
}

func inflateTo(ctx context.Context, w io.Writer, e entry) error {
	r, err := e.open()
	if err != nil {
		return err
	}

	defer r.Close()
	return copyAll(ctx, w, r)
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyAll is io.Copy that ends with ctx.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) error {
	kept := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(kept)
	for buf := kept[:]; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
