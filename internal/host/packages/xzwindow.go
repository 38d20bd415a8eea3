package packages

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// An xz file says for each of its blocks how large a dictionary the decoder must hold, up to 4 GiB, and
// the decoder takes it at its word. So the file is walked once, without decompressing, before it is
// decoded: blocks and the chunks of LZMA2 inside them carry their own lengths. The format is
// tukaani.org/xz/xz-file-format.txt, 1.2.0.

var errXz = errors.New("the xz file is damaged")

// xzChecks are the bytes of a block's check by its type.
var xzChecks = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// An xzWalker counts what it passes over.
type xzWalker struct {
	r  *bufio.Reader
	at int64 // bytes since the begin of the block or index
}

// CheckXz refuses a file that is no sequence of xz streams, or asks for a dictionary above maxWindow.
func CheckXz(r *bufio.Reader) error {
	w := &xzWalker{r: r}
	for {
		err := w.stream()
		if err != nil {
			return err
		}
		if more, err := w.padding(); !more || err != nil {
			return err
		}
	}
}

// stream passes over one stream: its header, its blocks, its index and its footer.
func (w *xzWalker) stream() error {
	head := make([]byte, 12)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return errXz
	}

	magic, flags := string(head[:6]), head[6:8]
	if magic != "\xfd7zXZ\x00" || flags[0] != 0 || flags[1] > 15 {
		return errXz
	}

	check := xzChecks[head[7]]

	for {
		w.at = 0
		size, err := w.byte()
		if err != nil {
			return err
		}
		if size == 0 {
			return w.index()
		}
		if err := w.block(size, check); err != nil {
			return err
		}
	}
}

// padding passes over zero bytes between streams, and tells whether another stream follows.
func (w *xzWalker) padding() (more bool, err error) {
	for {
		b, err := w.r.ReadByte()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if b != 0 {
			return true, w.r.UnreadByte()
		}
	}
}

// block passes over one block whose header has the size that code says.
func (w *xzWalker) block(code byte, check int) error {
	head := make([]byte, (int(code)+1)*4-1)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return errXz
	}

	w.at += int64(len(head))

	window, err := xzWindow(head)
	if err != nil {
		return err
	}
	if window > maxWindow {
		return fmt.Errorf("it needs a window of %d MiB to unpack, and %d are allowed: compress it with xz -9 or less", window>>20, maxWindow>>20)
	}
	if err := w.chunks(); err != nil {
		return err
	}

	return w.skip((4-w.at%4)%4 + int64(check))
}

// xzWindow is the size of the dictionary that the header of a block asks for.
func xzWindow(head []byte) (int64, error) {
	flags, rest := head[0], head[1:]
	var err error
	number := func() (v uint64) {
		if v, rest, err = xzNumber(rest, err); err != nil {
			return 0
		}
		return v
	}

	for _, present := range []byte{0x40, 0x80} { // the compressed and the uncompressed size
		if flags&present != 0 {
			number()
		}
	}

	window := int64(-1)
	for range flags&3 + 1 {
		id, size := number(), number()
		if err != nil || size > uint64(len(rest)) {
			return 0, errXz
		}

		const lzma2 = 0x21
		if id == lzma2 && size == 1 {
			window = lzma2Window(rest[0])
		}

		rest = rest[size:]
	}

	if window < 0 {
		return 0, errors.New("it is compressed by no LZMA2 filter")
	}

	return window, nil
}

// lzma2Window reads the one property of LZMA2.
func lzma2Window(b byte) int64 {
	if b >= 40 {
		return 4 << 30
	}
	return int64(2|b&1) << (b/2 + 11)
}

// xzNumber reads a number of variable length, unless an earlier one failed.
func xzNumber(p []byte, failed error) (uint64, []byte, error) {
	v := uint64(0)
	for i, b := range p[:min(len(p), 9)] {
		v |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 && failed == nil {
			return v, p[i+1:], nil
		}
	}

	return 0, nil, errXz
}

// chunks passes over the chunks of LZMA2.
func (w *xzWalker) chunks() error {
	for {
		control, err := w.byte()
		switch {
		case err != nil:
			return err
		case control == 0:
			return nil
		case control >= 0x80:
			if err = w.skip(2); err == nil { // the size when unpacked
				err = w.sized(int(control >> 6 & 1)) // with a byte of properties from 0xC0 on
			}
		case control <= 2:
			err = w.sized(0)
		default:
			err = errXz
		}

		if err != nil {
			return err
		}
	}
}

// sized passes over as many bytes as the next two say, and more.
func (w *xzWalker) sized(more int) error {
	high, err1 := w.byte()
	low, err2 := w.byte()
	if err := errors.Join(err1, err2); err != nil {
		return errXz
	}
	return w.skip(int64(high)<<8 + int64(low) + 1 + int64(more))
}

// index passes over the index, whose first byte was read, and the footer.
func (w *xzWalker) index() error {
	records, err := w.number()
	for i := uint64(0); err == nil && i < 2*records; i++ {
		_, err = w.number()
	}

	if err != nil {
		return errXz
	}
	return w.skip((4-w.at%4)%4 + 4 + 12)
}

func (w *xzWalker) number() (v uint64, err error) {
	for i := range 9 {
		b, err := w.byte()
		if err != nil {
			return 0, err
		}

		v |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return v, nil
		}
	}
	return 0, errXz
}

func (w *xzWalker) byte() (byte, error) {
	b, err := w.r.ReadByte()
	if err != nil {
		return 0, errXz
	}
	w.at++
	return b, nil
}

func (w *xzWalker) skip(n int64) error {
	got, err := w.r.Discard(int(n))
	w.at += int64(got)
	if err != nil {
		return errXz
	}
	return nil
}
