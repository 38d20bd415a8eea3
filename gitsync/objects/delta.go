package objects

import (
	"bufio"
	"context"
	"io"
)

// deltaHead reads the sizes that a delta begins with: of its base, and of what it makes.
func deltaHead(r io.ByteReader) (base, result int64, err error) {
	if base, err = deltaSize(r); err != nil {
		return 0, 0, err
	}

	result, err = deltaSize(r)
	return base, result, err
}

// deltaSize reads a number of seven bits a byte, the lowest first.
func deltaSize(r io.ByteReader) (int64, error) {
	var n int64
	for shift := 0; ; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, broken("a delta ends in its head")
		}
		if shift > 55 {
			return 0, broken("a delta tells a size that no object has")
		}
		n |= int64(c&0x7f) << shift
		if c&0x80 == 0 {
			return n, nil
		}
	}
}

// A patch is one delta about to be applied; delta stands behind its head.
type patch struct {
	base   content
	size   int64 // of the result
	delta  *bufio.Reader
	buffer []byte
}

// apply writes what the delta makes of its base. It holds no more than a buffer of it.
func (p *patch) apply(ctx context.Context, w io.Writer) error {
	left := p.size
	for left > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		op, err := p.delta.ReadByte()
		if err != nil {
			return broken("a delta ends too early")
		}

		var n int64
		switch {
		case op&0x80 != 0:
			n, err = p.copyBase(op, left, w)
		case op != 0:
			n, err = p.insert(int64(op), left, w)
		default:
			return broken("a delta holds an unknown instruction")
		}
		if err != nil {
			return err
		}
		left -= n
	}

	if _, err := p.delta.ReadByte(); err != io.EOF {
		return broken("a delta holds more than it should")
	}

	return nil
}

// copyBase does an instruction that copies a piece of the base. The low four bits of op say
// which bytes of its offset follow, the next three which of its length.
func (p *patch) copyBase(op byte, left int64, w io.Writer) (int64, error) {
	var at, n int64
	for bit := range 7 {
		if op&(1<<bit) == 0 {
			continue
		}
		c, err := p.delta.ReadByte()
		if err != nil {
			return 0, broken("a delta ends in an instruction")
		}
		if bit < 4 {
			at |= int64(c) << (8 * bit)
		} else {
			n |= int64(c) << (8 * (bit - 4))
		}
	}

	if n == 0 {
		n = 0x10000
	}

	inBase := at+n <= p.base.Size()
	if !inBase || n > left {
		return 0, broken("a delta copies what is not there")
	}

	return p.copy(w, io.NewSectionReader(p.base, at, n), n)
}

// insert does an instruction that adds the n bytes behind it.
func (p *patch) insert(n, left int64, w io.Writer) (int64, error) {
	if n > left {
		return 0, broken("a delta makes more than it says")
	}

	return p.copy(w, io.LimitReader(p.delta, n), n)
}

func (p *patch) copy(w io.Writer, r io.Reader, n int64) (int64, error) {
	if p.buffer == nil {
		p.buffer = make([]byte, 32<<10)
	}

	got, err := io.CopyBuffer(onlyWriter{w}, r, p.buffer)
	if err == nil && got != n {
		err = broken("a delta ends in an instruction")
	}

	return got, err
}

// onlyWriter hides what else a writer can do: io.CopyBuffer would leave the buffer unused.
type onlyWriter struct{ io.Writer }
