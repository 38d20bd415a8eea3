package wire

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"bellhop/internal/bundle"
)

// Frames: how messages and bytes are cut up on the wire, in both directions. What a host says
// is read through a HostReader, which bounds it.

// WriteFrame writes v as one message frame.
func WriteFrame(w io.Writer, kind byte, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) > bundle.MaxMessage {
		return fmt.Errorf("message %q: %d bytes are more than the cap of %d", kind, len(p), bundle.MaxMessage)
	}

	b := frames.Get().(*bytes.Buffer)
	defer frames.Put(b)
	b.Reset()
	b.Write(noHead[:])
	if deflate(b, p) {
		kind |= deflated
	} else {
		b.Truncate(headSize)
		b.Write(p)
	}

	return writeFrame(w, kind, b.Bytes())
}

// frames are kept between messages. Nothing secret is in a message: keys travel as Data.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// deflated marks the type byte of a message whose payload is deflated.
const deflated byte = 0x80

// deflaters are kept between messages: one is half a megabyte of tables, and a push to a
// thousand hosts deflates a thousand offers.
var deflaters = sync.Pool{New: func() any {
	z, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is right
	}
	return z
}}

// deflate appends p deflated to b, and says whether that pays.
func deflate(b *bytes.Buffer, p []byte) bool {
	if len(p) < 1<<10 {
		return false
	}

	was := b.Len()
	z := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(z)
	z.Reset(b)
	z.Write(p) // to memory: it can't fail
	z.Close()
	return b.Len()-was < len(p)
}

// inflaters are kept for the same reason.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// inflate undoes deflate, and stops at the cap: what is small on the wire may be huge.
func inflate(kind byte, p []byte, most int64) ([]byte, error) {
	z := inflaters.Get().(io.Reader)
	defer inflaters.Put(z)
	z.(flate.Resetter).Reset(bytes.NewReader(p), nil) // it never fails

	out, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: frame %q: %w", ErrProtocol, kind, err)
	}
	if int64(len(out)) > most {
		return nil, fmt.Errorf("%w: frame %q: inflated it is more than the cap of %d", ErrProtocol, kind, most)
	}

	return out, nil
}

// WriteBlob writes b and its bytes, exactly b.Size of them, read from r.
func WriteBlob(w io.Writer, b bundle.Blob, r io.Reader) error {
	if err := WriteFrame(w, bundle.FrameBlob, b); err != nil {
		return err
	}

	buf, putBack := room(int(headSize + min(b.Size, bundle.MaxData)))
	defer putBack() // cleared: it may have held a key

	for left := b.Size; left > 0; {
		n := min(left, int64(len(buf)-headSize))
		if _, err := io.ReadFull(r, buf[headSize:headSize+n]); err != nil {
			return fmt.Errorf("blob %s: %w", b.Name, err)
		}
		if err := writeFrame(w, bundle.FrameData, buf[:headSize+n]); err != nil {
			return err
		}
		left -= n
	}

	return nil
}

// rooms are small buffers that blobs went through.
var rooms = sync.Pool{New: func() any { return new([smallRoom]byte) }}

const smallRoom = 4 << 10

// room is a buffer of n bytes. putBack clears it.
func room(n int) (buf []byte, putBack func()) {
	if n > smallRoom {
		buf = make([]byte, n)
		return buf, func() { clear(buf) }
	}

	r := rooms.Get().(*[smallRoom]byte)
	return r[:n], func() { clear(r[:n]); rooms.Put(r) }
}

const headSize = 5

var noHead [headSize]byte // room for a head

// writeFrame writes a frame whose payload begins after room for its head, in one write: over
// SSH a write is a packet.
func writeFrame(w io.Writer, kind byte, frame []byte) error {
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-headSize))
	_, err := w.Write(frame)
	return err
}

// A Reader reads frames. It is for one goroutine.
type Reader struct {
	r    *bufio.Reader
	head [headSize]byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	b := buffers.Get().(*bufio.Reader)
	b.Reset(r)
	return &Reader{r: b}
}

// Done gives the buffer back for another Reader; this one reads no more.
func (r *Reader) Done() {
	if r.r != nil {
		r.r.Reset(nil)
		buffers.Put(r.r)
		r.r = nil
	}
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// SkipNoise reads up to and with Magic. It returns ErrNoMagic, with what was read first,
// when the stream ends or MaxNoise bytes pass without it.
func (r *Reader) SkipNoise() (noise []byte, err error) {
	for len(noise) < bundle.MaxNoise {
		c, err := r.r.ReadByte()
		if err != nil {
			return noise, fmt.Errorf("%w: %w", bundle.ErrNoMagic, err)
		}
		noise = append(noise, c)
		if c == '\n' && bytes.HasSuffix(noise, []byte(bundle.Magic)) {
			return noise[:len(noise)-len(bundle.Magic)], nil
		}
	}
	return noise, bundle.ErrNoMagic
}

// Next reads one frame. The payload is the caller's own. A frame over its cap is an error
// before any of it is read.
func (r *Reader) Next() (kind byte, payload []byte, err error) { return r.next(capOf) }

// capOf is how many bytes a frame may have. Only what describes a whole host is large.
func capOf(kind byte) (int64, error) {
	switch kind {
	case bundle.FrameData:
		return bundle.MaxData, nil
	case bundle.FrameAsk, bundle.FrameBlob, bundle.FrameEnd:
		return maxSmall, nil
	}
	return bundle.MaxMessage, nil
}

// maxSmall caps a message that names one thing, bytes.
const maxSmall = 64 << 10

// next is Next with caps of the caller's; an error of limit ends it before the payload.
func (r *Reader) next(limit func(kind byte) (int64, error)) (kind byte, payload []byte, err error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return 0, nil, err
	}

	kind = r.head[0] &^ deflated
	isDeflated := r.head[0]&deflated != 0
	n := int64(binary.BigEndian.Uint32(r.head[1:]))

	most, err := limit(kind)
	if err != nil {
		return 0, nil, err
	}
	if n > most {
		return 0, nil, fmt.Errorf("%w: frame %q: %d bytes are more than the cap of %d", ErrProtocol, kind, n, most)
	}
	if isDeflated && kind == bundle.FrameData {
		return 0, nil, fmt.Errorf("%w: data came deflated", ErrProtocol)
	}

	p, err := r.take(n)
	if err != nil {
		return 0, nil, noEOF(err)
	}
	if isDeflated {
		p, err = inflate(kind, p, most)
	}

	return kind, p, err
}

// take reads n bytes. What is long grows as bytes come, so that a length alone costs nothing.
func (r *Reader) take(n int64) ([]byte, error) {
	if n <= 64<<10 {
		p := make([]byte, n)
		_, err := io.ReadFull(r.r, p)
		return p, err
	}

	var buf bytes.Buffer
	buf.Grow(64 << 10)
	_, err := io.CopyN(&buf, r.r, n)
	return buf.Bytes(), err
}

// Expect reads one frame of the kind want into v.
func (r *Reader) Expect(want byte, v any) error {
	kind, p, err := r.Next()
	if err != nil {
		return err
	}
	if o, ok := v.(*bundle.Offer); ok && want == bundle.FrameOffer {
		*o, err = r.Offer(kind, p)
		return err
	}
	if kind != want {
		return fmt.Errorf("frame %q came where %q belongs", kind, want)
	}

	return bundle.Unmarshal(p, v)
}

// Offer is the offer that begins with a frame which was read: itself, or its manifest or delta
// ahead.
func (r *Reader) Offer(kind byte, p []byte) (o bundle.Offer, err error) {
	var ahead *bundle.Manifest
	var delta *bundle.Delta
	switch kind {
	case bundle.FrameManifest:
		ahead = new(bundle.Manifest)
		if err := bundle.Unmarshal(p, ahead); err != nil {
			return o, fmt.Errorf("manifest: %w", err)
		}
		kind, p, err = r.Next()
	case bundle.FrameDelta:
		delta = new(bundle.Delta)
		if err := bundle.Unmarshal(p, delta); err != nil {
			return o, fmt.Errorf("delta: %w", err)
		}
		kind, p, err = r.Next()
	}

	if err != nil {
		return o, noEOF(err)
	}
	if kind != bundle.FrameOffer {
		return o, fmt.Errorf("frame %q came where %q belongs", kind, bundle.FrameOffer)
	}
	if err := bundle.Unmarshal(p, &o); err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	if ahead != nil {
		ahead.Host = o.Manifest.Host
		o.Manifest = *ahead
	}
	o.Delta = delta
	return o, nil
}

// Data copies the Data frames of b to w, exactly b.Size bytes.
func (r *Reader) Data(b bundle.Blob, w io.Writer) error {
	for left := b.Size; left > 0; {
		kind, p, err := r.Next()
		if err != nil {
			return noEOF(err)
		}
		if kind != bundle.FrameData || len(p) == 0 || int64(len(p)) > left {
			return fmt.Errorf("blob %s: frame %q of %d bytes with %d to come", b.Name, kind, len(p), left)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		clear(p)
		left -= int64(len(p))
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
