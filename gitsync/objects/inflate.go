package objects

import (
	"bufio"
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"
	"sync"
)

// inflaters are kept, since each has tables of 40 KiB.
var inflaters sync.Pool

// An inflater reads a zlib stream that must hold exactly size bytes.
type inflater struct {
	z    io.ReadCloser
	left int64
}

// inflate begins to read a stream. It takes no more of r than the stream has, if r is an
// io.ByteReader.
func inflate(r io.Reader, size int64) (*inflater, error) {
	z, ok := inflaters.Get().(io.ReadCloser)
	if !ok {
		fresh, err := zlib.NewReader(r)
		if err != nil {
			return nil, zlibError(err)
		}
		return &inflater{fresh, size}, nil
	}

	if err := z.(zlib.Resetter).Reset(r, nil); err != nil {
		return nil, zlibError(err)
	}

	return &inflater{z, size}, nil
}

func (i *inflater) Read(p []byte) (int, error) {
	if i.left == 0 {
		var one [1]byte
		n, err := i.z.Read(one[:])
		if n > 0 {
			return 0, broken("an object is larger than it says")
		}
		return 0, zlibError(err)
	}

	if int64(len(p)) > i.left {
		p = p[:i.left]
	}

	n, err := i.z.Read(p)
	i.left -= int64(n)
	if err == io.EOF && i.left > 0 {
		return n, broken("an object is shorter than it says")
	}

	if err == io.EOF {
		err = nil // the next Read says so
	}

	return n, zlibError(err)
}

func (i *inflater) Close() error {
	if i.z != nil {
		inflaters.Put(i.z)
		i.z = nil
	}

	return nil
}

// zlibError says that a stream is no zlib, where it is that.
func zlibError(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case err == nil || err == io.EOF:
		return err
	case err == io.ErrUnexpectedEOF, err == zlib.ErrHeader, err == zlib.ErrChecksum, err == zlib.ErrDictionary, errors.As(err, &corrupt):
		return broken("inflate: %w", err)
	}

	return err
}

// byteReader is r, made to read single bytes where it can't.
func byteReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4<<10) }
