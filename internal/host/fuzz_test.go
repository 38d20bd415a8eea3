package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/helper"
)

// FuzzSession throws bytes at the helper. Whatever comes, it neither hangs nor panics, and
// starts no run that was not offered whole.
func FuzzSession(f *testing.F) {
	l := bot("one")
	var whole bytes.Buffer
	o := l.offer()
	o.Base = 0
	wire.WriteFrame(&whole, bundle.FrameOffer, o)
	for d, p := range l.bytes {
		wire.WriteBlob(&whole, bundle.Blob{Kind: bundle.BlobFile, Name: d, Size: int64(len(p))}, bytes.NewReader(p))
	}
	f.Add(whole.Bytes())
	o.Ahead = len(l.bytes)
	wire.WriteFrame(&whole, bundle.FrameOffer, o)
	f.Add(whole.Bytes())
	for _, verb := range []string{bundle.AskManifest, bundle.AskAttach, bundle.AskCheck, bundle.AskConfirm, bundle.AskLook, "else"} {
		var ask bytes.Buffer
		wire.WriteFrame(&ask, bundle.FrameAsk, bundle.Ask{Verb: verb, Run: "../x"})
		f.Add(ask.Bytes())
	}
	f.Add([]byte("SSH-2.0-nonsense\r\n"))
	b := newFuzzBox(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		b.t = t
		before := b.all()
		serve(b, bytes.NewReader(in), io.Discard)
		_ = helper.ServeOptimistic(context.Background(), b.m, bytes.NewReader(in), io.Discard)
		if d := diff(before, b.all()); len(d) > 0 {
			t.Errorf("a stranger's bytes changed the host:\n%s", strings.Join(d, "\n"))
		}
	})
}

// FuzzOffer asks for a manifest of any kind: what the helper then wants lies below its root
// and outside its own places, or it refuses.
func FuzzOffer(f *testing.F) {
	p, _ := json.Marshal(bot("one").Manifest)
	f.Add(p)
	f.Add([]byte(`{"files":[{"path":"/../../x"}],"links":[{"path":"/a","target":""}],"keys":[{"name":"","path":"/run/keys/../x"}]}`))
	b := newFuzzBox(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		var m bundle.Manifest
		if json.Unmarshal(p, &m) != nil {
			return
		}
		var in bytes.Buffer
		wire.WriteFrame(&in, bundle.FrameOffer, bundle.Offer{Run: "run", Mode: bundle.ModeDeploy, Nonce: make([]byte, 32), Manifest: m})
		var out bytes.Buffer
		serve(b, &in, &out)
		for _, x := range m.Files {
			if asked := bytes.Contains(out.Bytes(), []byte(`"files":["`)); asked && filepath.Clean(x.Path) != x.Path {
				t.Errorf("path %q was accepted", x.Path)
			}
		}
	})
}

func newFuzzBox(f *testing.F) *box {
	b := newBox(f)
	b.noApply = true
	return b
}

func serve(b *box, in io.Reader, out io.Writer) {
	_ = helper.Serve(context.Background(), b.m, in, out)
}
