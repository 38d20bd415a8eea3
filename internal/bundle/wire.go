package bundle

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// The wire between the deployer and its helper on the host: one exec, one stream each way.
//
//	helper   → Magic, then Hello
//	deployer → Manifest and Offer, or an Ask
//	helper   → Want                          (an Offer that is refused at once: Result)
//	deployer → Blob with its Data …, End
//	helper   → Event …, Result
//
// A deployer that knows how the host stood last may speak first, on a helper that was started
// for that. In place of the Manifest may come a Delta to the one that stands, and the Offer says how many Blobs follow at once, and that the host may go on without a
// word when nothing else is lacking. Hello then comes after it, without Keys and Last.
//
// A frame is one type byte, the payload's length as a big-endian uint32, and the payload:
// JSON for messages, raw bytes for Data. A message over a kilobyte is deflated when that
// makes it smaller, and its type byte says so: a manifest repeats itself, and the wire of a
// one-line change is mostly manifest. Data never is, so no length tells of a key. The result is truth; the exit code is not.
const (
	// Protocol is the version that both ends must share.
	Protocol = 1
	// Magic opens the helper's side. Whatever a login shell printed before it is skipped.
	Magic = "\x00bellhop-host 1\n"
	// MaxNoise is how many bytes before Magic are skipped before giving up.
	MaxNoise = 64 << 10
	// MaxMessage caps the payload of a message frame, bytes.
	MaxMessage = 32 << 20
	// MaxData caps the payload of a Data frame, bytes.
	MaxData = 256 << 10
	// MaxBlob caps a file or an archive that travels, bytes.
	MaxBlob = 1 << 30
	// MaxKey caps the value of a key, bytes: as systemd's own credentials.
	MaxKey = 1 << 20
)

// Frame types.
const (
	FrameHello    byte = 'H'
	FrameManifest byte = 'M'
	FrameDelta    byte = 'P'
	FrameOffer    byte = 'O'
	FrameAsk      byte = 'A'
	FrameWant     byte = 'W'
	FrameBlob     byte = 'B'
	FrameData     byte = 'D'
	FrameEnd      byte = 'E'
	FrameEvent    byte = 'V'
	FrameResult   byte = 'R'
	FrameReply    byte = 'Y'
)

// Hello is what the helper says first: who it is, and what stands on its host.
type Hello struct {
	Protocol int    `json:"protocol"`
	Digest   string `json:"digest"` // SHA-256 of the helper's own executable
	Arch     string `json:"arch"`   // as Go names it: amd64, arm64, arm, riscv64
	BootID   string `json:"boot_id"`
	Machine  string `json:"machine,omitempty"` // MachineDigest of its machine id; "" when it has none
	Systemd  int    `json:"systemd"`           // version number, as in 252
	NixOS    bool   `json:"nixos,omitempty"`
	// Record is nil when the host has none: new, reinstalled or wiped.
	Record *Record    `json:"record,omitempty"`
	Keys   []KeyState `json:"keys,omitempty"` // of the generation that stands
	// Open is the run whose apply is going on or waits to be undone; "" if none.
	Open string `json:"open,omitempty"`
	// Last is the result of the newest run that ended, for a deployer that lost the line.
	Last *Result `json:"last,omitempty"`
	// Masked are units of the fleet's kind that the admin masked, so that they are told early.
	SwapClear bool `json:"swap_clear,omitempty"` // KeyDir is a tmpfs, and the host swaps unencrypted
	RAMFS     bool `json:"ramfs,omitempty"`      // KeyDir is a ramfs
}

// A KeyState tells how one key of the standing generation does.
type KeyState struct {
	Name    string `json:"name"`
	Present bool   `json:"present"`          // file there, owner and mode as wanted
	Since   int64  `json:"since,omitempty"`  // Unix seconds; 0 when not present
	Source  string `json:"source,omitempty"` // "pushed" or "sealed"
	Unit    string `json:"unit,omitempty"`   // ActiveState of NAME-key.service
}

// What an Offer asks for.
const (
	ModeDeploy = "deploy" // make the host hold the manifest
	ModeKeys   = "keys"   // only put back the keys of the generation that stands
)

// An Offer is what the host should hold.
type Offer struct {
	Run      string `json:"run"`             // [a-z0-9-]{1,40}
	Mode     string `json:"mode"`            // ModeDeploy or ModeKeys
	Nonce    []byte `json:"nonce,omitempty"` // 32 random bytes, new for each offer of keys
	Base     int64  `json:"base"`            // generation it builds on; a host that stands elsewhere refuses
	Deployer string `json:"deployer"`
	TakeOver bool   `json:"take_over,omitempty"` // accept a host whose record names another deployer
	Digest   string `json:"digest"`              // of the bundle, as the deployer computed it
	// Manifest is WithoutKeyDigests. Where a frame of its own came ahead of the offer, it is that
	// one with the host's name: for a thousand hosts of one kind it is encoded once.
	Manifest Manifest `json:"manifest"`
	// Delta came ahead in place of the manifest: it is made of the one that stands, and gets the
	// host's name.
	Delta *Delta `json:"-"`
	// Last is the manifest that the deployer remembers, sent only when the host has no record:
	// what equals it is adopted, anything else counts as there before bellhop.
	Last *Manifest `json:"last,omitempty"`
	// Formerly is the host's name in its record when the repo no longer has that name: a
	// rename. Without it, a record of another host is refused.
	Formerly string `json:"formerly,omitempty"`
	// AllowPrune lets the run remove more than half of what the host has.
	AllowPrune bool `json:"allow_prune,omitempty"`
	// Ahead is how many Blobs of files follow at once, unasked. With Go, a host that lacks
	// nothing else, and has no keys, skips Want and End.
	Ahead int  `json:"ahead,omitempty"`
	Go    bool `json:"go,omitempty"`
}

// Want answers an Offer: what the host lacks.
type Want struct {
	Files    []string `json:"files,omitempty"`    // digests
	Packages []string `json:"packages,omitempty"` // digests
	// Keys holds KeyMAC(nonce, value) for each key that is there with the right owner
	// and mode. The deployer, which has the plaintext, sends what is missing or differs.
	Keys map[string][]byte `json:"keys,omitempty"`
}

// Kinds of a Blob.
const (
	BlobFile    = "file"
	BlobPackage = "package"
	BlobKey     = "key"
)

// A Blob announces bytes that follow in Data frames, Size in all.
type Blob struct {
	Kind string `json:"kind"`
	Name string `json:"name"` // digest, or the key's name
	Size int64  `json:"size"`
}

// An Event is one line of progress.
type Event struct {
	At   int64  `json:"at"`             // Unix milliseconds by the host's clock
	Step string `json:"step"`           // preflight begin stop keep accounts files tmpfiles keys reload start health applied confirm done undo
	Text string `json:"text,omitempty"` // for people
}

// What came of a run on the host.
const (
	OutcomeDone       = "done"        // a new generation stands
	OutcomeNothing    = "nothing"     // it stood already; the record was rewritten
	OutcomeRefused    = "refused"     // preflight said no; nothing was touched
	OutcomeRolledBack = "rolled-back" // it failed, and the generation before it stands again
	OutcomeFailed     = "failed"      // it failed, and could not be undone whole
)

// Why a run was refused.
const (
	RefusedBase     = "base"     // the host stands at another generation: plan again
	RefusedDeployer = "deployer" // the record names another deployer
	RefusedNetwork  = "network"  // the record names another network or host
	RefusedBusy     = "busy"     // another run is at work
	RefusedBundle   = "bundle"   // the bundle can't stand here: owner, mask, command, prune
)

// A Result is what came of a run on one host.
type Result struct {
	Run        string     `json:"run"`
	Outcome    string     `json:"outcome"`
	Refused    string     `json:"refused,omitempty"`
	Error      string     `json:"error,omitempty"`
	CutOff     bool       `json:"cut_off,omitempty"`  // the run was killed, by a power cut or by whoever, and undone: not the bundle's fault
	Record     *Record    `json:"record,omitempty"`   // what stands now
	Changed    []string   `json:"changed,omitempty"`  // things by their Name, as Change has it
	Restored   []string   `json:"restored,omitempty"` // edited by hand on the host, put back
	Edits      []string   `json:"edits,omitempty"`    // for each of those, where the host keeps what it held; "" when it was gone
	Kept       []string   `json:"kept,omitempty"`     // accounts and homes that stay after a service left
	Started    []string   `json:"started,omitempty"`
	Stopped    []string   `json:"stopped,omitempty"`
	Restarted  []string   `json:"restarted,omitempty"`
	Reloaded   []string   `json:"reloaded,omitempty"`
	Drifted    []string   `json:"drifted,omitempty"` // units stopped by hand, left so
	Warnings   []string   `json:"warnings,omitempty"`
	Keys       []KeyState `json:"keys,omitempty"`
	Fsyncs     int        `json:"fsyncs,omitempty"`
	TookMillis int64      `json:"took_ms"`
}

// Verbs of an Ask.
const (
	AskManifest = "manifest" // Reply.Manifest: of the generation that stands
	AskAttach   = "attach"   // events and result of Run follow
	AskVoid     = "void"     // attach, where Run was begun; else it can't begin any more, and an empty Reply proves it
	AskUndo     = "undo"     // give the host back: everything bellhop owns leaves, originals return
	AskCheck    = "check"    // Reply.Facts
	AskConfirm  = "confirm"  // Run may keep what it applied
)

// An Ask is anything but an offer.
type Ask struct {
	Verb string `json:"verb"`
	Run  string `json:"run,omitempty"`
}

// A Reply answers an Ask that wants no run.
type Reply struct {
	Manifest *Manifest         `json:"manifest,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// ErrNoMagic says that the other side never spoke as a helper does.
var ErrNoMagic = errors.New("no bellhop helper answered")

// WriteFrame writes v as one message frame.
func WriteFrame(w io.Writer, kind byte, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) > MaxMessage {
		return fmt.Errorf("message %q: %d bytes are more than the cap of %d", kind, len(p), MaxMessage)
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
func inflate(kind byte, p []byte) ([]byte, error) {
	z := inflaters.Get().(io.Reader)
	defer inflaters.Put(z)
	z.(flate.Resetter).Reset(bytes.NewReader(p), nil) // it never fails
	out, err := io.ReadAll(io.LimitReader(z, MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("frame %q: %w", kind, err)
	}
	if len(out) > MaxMessage {
		return nil, fmt.Errorf("frame %q: inflated it is more than the cap of %d", kind, MaxMessage)
	}
	return out, nil
}

// WriteBlob writes b and its bytes, exactly b.Size of them, read from r.
func WriteBlob(w io.Writer, b Blob, r io.Reader) error {
	if err := WriteFrame(w, FrameBlob, b); err != nil {
		return err
	}
	buf, putBack := room(int(headSize + min(b.Size, MaxData)))
	defer putBack() // cleared: it may have held a key
	for left := b.Size; left > 0; {
		n := min(left, int64(len(buf)-headSize))
		if _, err := io.ReadFull(r, buf[headSize:headSize+n]); err != nil {
			return fmt.Errorf("blob %s: %w", b.Name, err)
		}
		if err := writeFrame(w, FrameData, buf[:headSize+n]); err != nil {
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
	for len(noise) < MaxNoise {
		c, err := r.r.ReadByte()
		if err != nil {
			return noise, fmt.Errorf("%w: %w", ErrNoMagic, err)
		}
		noise = append(noise, c)
		if c == '\n' && bytes.HasSuffix(noise, []byte(Magic)) {
			return noise[:len(noise)-len(Magic)], nil
		}
	}
	return noise, ErrNoMagic
}

// Next reads one frame. The payload is the caller's own. A frame over its cap is an error
// before any of it is read.
func (r *Reader) Next() (kind byte, payload []byte, err error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return 0, nil, err
	}
	kind = r.head[0]
	n := int64(binary.BigEndian.Uint32(r.head[1:]))
	limit := int64(MaxMessage)
	if kind == FrameData {
		limit = MaxData
	}
	if n > limit {
		return 0, nil, fmt.Errorf("frame %q: %d bytes are more than the cap of %d", kind, n, limit)
	}
	p, err := r.take(n)
	if err != nil {
		return 0, nil, noEOF(err)
	}
	if kind&deflated != 0 {
		kind &^= deflated
		if kind == FrameData {
			return 0, nil, errors.New("data came deflated")
		}
		p, err = inflate(kind, p)
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
	if o, ok := v.(*Offer); ok && want == FrameOffer {
		*o, err = r.Offer(kind, p)
		return err
	}
	if kind != want {
		return fmt.Errorf("frame %q came where %q belongs", kind, want)
	}
	return Unmarshal(p, v)
}

// Offer is the offer that begins with a frame which was read: itself, or its manifest or delta
// ahead.
func (r *Reader) Offer(kind byte, p []byte) (o Offer, err error) {
	var ahead *Manifest
	var delta *Delta
	switch kind {
	case FrameManifest:
		ahead = new(Manifest)
		if err := Unmarshal(p, ahead); err != nil {
			return o, fmt.Errorf("manifest: %w", err)
		}
		kind, p, err = r.Next()
	case FrameDelta:
		delta = new(Delta)
		if err := Unmarshal(p, delta); err != nil {
			return o, fmt.Errorf("delta: %w", err)
		}
		kind, p, err = r.Next()
	}
	if err != nil {
		return o, noEOF(err)
	}
	if kind != FrameOffer {
		return o, fmt.Errorf("frame %q came where %q belongs", kind, FrameOffer)
	}
	if err := Unmarshal(p, &o); err != nil {
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
func (r *Reader) Data(b Blob, w io.Writer) error {
	for left := b.Size; left > 0; {
		kind, p, err := r.Next()
		if err != nil {
			return noEOF(err)
		}
		if kind != FrameData || len(p) == 0 || int64(len(p)) > left {
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

// Unmarshal decodes one message payload; unknown fields are let pass, so that a newer end
// may say more.
func Unmarshal(p []byte, v any) error { return json.Unmarshal(p, v) }

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
