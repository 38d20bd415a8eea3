package wire_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

func TestWire(t *testing.T) {
	var sent bytes.Buffer
	sent.WriteString("Welcome to chrysalis!\n" + bundle.Magic)
	hello := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: "b"}
	if err := wire.WriteFrame(&sent, bundle.FrameHello, hello); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 600_000)
	for i := range value {
		value[i] = byte(rand.N(256))
	}
	blob := bundle.Blob{Kind: bundle.BlobFile, Name: bundle.DigestBytes(value), Size: int64(len(value))}
	if err := wire.WriteBlob(&sent, blob, bytes.NewReader(value)); err != nil {
		t.Fatal(err)
	}

	r := wire.NewReader(&sent)
	noise, err := r.SkipNoise()
	if err != nil || string(noise) != "Welcome to chrysalis!\n" {
		t.Fatalf("SkipNoise() = %q, %v", noise, err)
	}
	var gotHello bundle.Hello
	if err := r.Expect(bundle.FrameHello, &gotHello); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(hello, gotHello); d != "" {
		t.Error(d)
	}
	var gotBlob bundle.Blob
	if err := r.Expect(bundle.FrameBlob, &gotBlob); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := r.Data(gotBlob, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), value) {
		t.Error("the blob's bytes changed on the way")
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("Next at the end: %v, want io.EOF", err)
	}
}

func TestWireRefuses(t *testing.T) {
	frame := func(kind byte, n uint32, p string) string {
		return string(binary.BigEndian.AppendUint32([]byte{kind}, n)) + p
	}
	for name, in := range map[string]string{
		"a message over its cap": frame(bundle.FrameOffer, bundle.MaxMessage+1, ""),
		"data over its cap":      frame(bundle.FrameData, bundle.MaxData+1, ""),
		"a cut payload":          frame(bundle.FrameOffer, 10, "abc"),
		"a cut head":             "O\x00\x00",
	} {
		if _, _, err := wire.NewReader(strings.NewReader(in)).Next(); err == nil || err == io.EOF {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	blob := bundle.Blob{Name: "x", Size: 3}
	for name, in := range map[string]string{
		"more data than announced": frame(bundle.FrameData, 4, "abcd"),
		"an empty data frame":      frame(bundle.FrameData, 0, ""),
		"another frame in between": frame(bundle.FrameEnd, 2, "{}"),
		"too little data":          frame(bundle.FrameData, 2, "ab"),
	} {
		if err := wire.NewReader(strings.NewReader(in)).Data(blob, io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := wire.NewReader(strings.NewReader(strings.Repeat("motd ", bundle.MaxNoise))).SkipNoise(); !errors.Is(err, bundle.ErrNoMagic) {
		t.Errorf("noise without end: %v, want ErrNoMagic", err)
	}
}

// mostInflated is how many bytes deflate can make of one, as zlib's own documentation has it.
const mostInflated = 1032

// FuzzReader feeds the parser of both ends: it must neither panic nor take more memory than what was really
// sent can come to.
func FuzzReader(f *testing.F) {
	var good bytes.Buffer
	good.WriteString(bundle.Magic)
	wire.WriteFrame(&good, bundle.FrameHello, bundle.Hello{Protocol: 1})
	wire.WriteBlob(&good, bundle.Blob{Kind: bundle.BlobKey, Name: "k", Size: 3}, strings.NewReader("abc"))
	f.Add(good.Bytes())
	f.Add([]byte(bundle.Magic + "D\xff\xff\xff\xff"))
	var deflated bytes.Buffer
	deflated.WriteString(bundle.Magic)
	wire.WriteFrame(&deflated, bundle.FrameOffer, bundle.Offer{Manifest: bundle.Manifest{Keys: make([]bundle.Key, 50)}})
	f.Add(deflated.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in))
		if _, err := r.SkipNoise(); err != nil {
			return
		}
		for {
			kind, p, err := r.Next()
			if err != nil {
				return
			}
			if len(p) > mostInflated*len(in) {
				t.Fatalf("a payload of %d bytes from %d", len(p), len(in))
			}
			if kind == bundle.FrameBlob {
				var b bundle.Blob
				if bundle.Unmarshal(p, &b) == nil && b.Size < 1<<20 {
					r.Data(b, io.Discard)
				}
			}
			var m bundle.Offer
			if bundle.Unmarshal(p, &m) == nil {
				m.Manifest.Sort()
				m.Manifest.Digest()
			}
		}
	})
}

// A manifest repeats itself, and travels small; what claims to be small may not be huge.
func TestMessagesAreDeflated(t *testing.T) {
	var m bundle.Manifest
	for i := range 200 {
		m.Keys = append(m.Keys, bundle.Key{Name: fmt.Sprintf("key%03d", i), Path: fmt.Sprintf("/run/keys/key%03d", i), User: "root", Group: "root", Mode: 0o400})
	}
	var b bytes.Buffer
	if err := wire.WriteFrame(&b, bundle.FrameOffer, bundle.Offer{Manifest: m}); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 4<<10 {
		t.Errorf("an offer of 200 alike keys takes %d bytes, want at most 4 KiB", b.Len())
	}
	var o bundle.Offer
	if err := wire.NewReader(&b).Expect(bundle.FrameOffer, &o); err != nil || len(o.Manifest.Keys) != 200 {
		t.Errorf("it came back with %d keys, %v", len(o.Manifest.Keys), err)
	}
	var z bytes.Buffer
	w, _ := flate.NewWriter(&z, flate.BestCompression)
	w.Write(make([]byte, bundle.MaxMessage+10))
	w.Close()
	bomb := append([]byte{bundle.FrameOffer | 0x80, 0, 0, 0, 0}, z.Bytes()...)
	binary.BigEndian.PutUint32(bomb[1:], uint32(z.Len()))
	if _, _, err := wire.NewReader(bytes.NewReader(bomb)).Next(); err == nil {
		t.Error("a message that inflates past the cap was taken")
	}
}
