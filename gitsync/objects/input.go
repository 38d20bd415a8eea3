package objects

import (
	"hash"
	"hash/crc32"
	"io"
)

// An input reads what arrives in steps, and knows how far it was used: bytes that were used go
// to the file and into both checksums.
type input struct {
	r     io.Reader
	to    io.Writer
	sum   hash.Hash
	crc   uint32
	left  int64 // bytes that may still arrive
	limit int64
	err   error // of the file

	buf      [64 << 10]byte
	pos, end int
	used     int   // what stands before is accounted for
	before   int64 // bytes before buf
}

func (in *input) offset() int64 { return in.before + int64(in.pos) }

// account writes down what was used.
func (in *input) account() {
	part := in.buf[in.used:in.pos]
	in.used = in.pos
	in.sum.Write(part)
	in.crc = crc32.Update(in.crc, crc32.IEEETable, part)
	if _, err := in.to.Write(part); err != nil && in.err == nil {
		in.err = err
	}
}

// mark begins an entry.
func (in *input) mark() {
	in.account()
	in.crc = 0
}

// checksum is the CRC-32 of what was used since the mark.
func (in *input) checksum() uint32 {
	in.account()
	return in.crc
}

func (in *input) fill() error {
	in.account()
	if in.err != nil {
		return in.err
	}

	in.before += int64(in.pos)
	in.pos, in.end, in.used = 0, 0, 0
	for range 100 {
		n, err := in.r.Read(in.buf[:])
		if in.left -= int64(n); in.left < 0 {
			return over("the remote sends more than %s in one fetch: is it the right repo?", Bytes(in.limit))
		}
		if in.end = n; n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}

	return io.ErrNoProgress
}

func (in *input) ReadByte() (byte, error) {
	if in.pos == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}

	in.pos++
	return in.buf[in.pos-1], nil
}

func (in *input) Read(p []byte) (int, error) {
	if in.pos == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}

	n := copy(p, in.buf[in.pos:in.end])
	in.pos += n
	return n, nil
}
