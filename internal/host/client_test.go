package host_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
)

// A load is a bundle with its bytes.
type load struct {
	bundle.Manifest
	bytes map[string][]byte // by digest
	keys  map[string]string // values by name
	lost  string            // a key that does not open

	meanwhile func() // happens between want and blobs
}

func newLoad() *load {
	return &load{Manifest: bundle.Manifest{Network: "net", Host: "chrysalis"}, bytes: map[string][]byte{}, keys: map[string]string{}}
}

func (l *load) file(path, text string) *load {
	p := []byte(text)
	d := bundle.DigestBytes(p)
	l.bytes[d] = p
	l.Files = append(l.Files, bundle.File{Path: path, Digest: d, Size: int64(len(p)), Mode: 0o644, User: "root", Group: "root", Service: "bot"})
	return l
}

func (l *load) link(path, target string) *load {
	l.Links = append(l.Links, bundle.Link{Path: path, Target: target, Service: "bot"})
	return l
}

func (l *load) owned(path, text, user string) *load {
	l.file(path, text)
	f := &l.Files[len(l.Files)-1]
	f.User, f.Group, f.Mode = user, user, 0o640
	return l
}

// service adds a unit that is enabled and started, and that each of triggers acts on.
func (l *load) service(name, text string, triggers ...string) *load {
	p := bundle.UnitDir + "/" + name
	l.file(p, text)
	l.Units = append(l.Units, bundle.Unit{Name: name, Service: "bot", Enable: true, Start: true, OnChange: bundle.Restart,
		Triggers: append(triggers, "file:"+p), Files: []string{p}})
	return l
}

func (l *load) user(name string) *load {
	l.file("/etc/sysusers.d/bellhop-bot.conf", fmt.Sprintf("u %s /srv/%s\n", name, name))
	l.Users = append(l.Users, bundle.User{Name: name, Group: name, Home: "/srv/" + name, Service: "bot"})
	return l
}

func (l *load) key(name, value string) *load {
	l.Keys = append(l.Keys, bundle.Key{Name: name, Path: bundle.KeyDir + "/" + name, User: "root", Group: "root", Mode: 0o400, Service: "bot"})
	l.keys[name] = value
	unit, p := name+"-key.service", bundle.UnitDir+"/"+name+"-key.service"
	l.file(p, "key unit")
	l.Units = append(l.Units, bundle.Unit{Name: unit, Service: "bot", KeyUnit: true, OnChange: bundle.None, Files: []string{p}})
	return l
}

func (l *load) pack(name string, archive []byte, kind string) *load {
	d := bundle.DigestBytes(archive)
	l.bytes[d] = archive
	l.Packages = append(l.Packages, bundle.Package{Name: name, Digest: d, Size: int64(len(archive)), Kind: kind, Strip: 1, Service: "bot"})
	return l
}

// A pipe joins Serve and the client.
type told struct {
	hello  bundle.Hello
	want   bundle.Want
	events []string
	res    *bundle.Result
}

// runs counts offers, also of tests in which several are made at once.
var runs atomic.Int64

// offer fills in what every offer says.
func (l *load) offer() bundle.Offer {
	l.Sort()
	d := l.Manifest
	for i := range d.Keys {
		d.Keys[i].Digest = bundle.DigestBytes([]byte(l.keys[d.Keys[i].Name]))
	}
	return bundle.Offer{Run: fmt.Sprintf("run-%d", runs.Add(1)), Mode: bundle.ModeDeploy, Nonce: make([]byte, 32), Base: -1,
		Deployer: "SHA256:me", Digest: d.Digest(), Manifest: d}
}

// talk runs one session: the offer (base -1: what the hello says), the blobs, the result.
func (b *box) talk(o bundle.Offer, l *load) (told, error) {
	defer b.settled()
	return talk(b.m, o, l)
}

func talk(m *machine.Machine, o bundle.Offer, l *load) (told, error) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := helper.Serve(context.Background(), m, inR, outW)
		outW.CloseWithError(cmp.Or(err, io.EOF))
		inR.Close()
		done <- err
	}()
	t, err := converse(wire.NewReader(outR), inW, o, l)
	inW.Close()
	outR.Close()
	if served := <-done; err == nil {
		err = served
	}
	return t, err
}

func converse(r *wire.Reader, w io.Writer, o bundle.Offer, l *load) (t told, err error) {
	if _, err = r.SkipNoise(); err != nil {
		return t, err
	}
	if err = r.Expect(bundle.FrameHello, &t.hello); err != nil {
		return t, err
	}
	if o.Base < 0 {
		o.Base = 0
		if t.hello.Record != nil {
			o.Base = t.hello.Record.Generation
		}
	}
	if err = wire.WriteFrame(w, bundle.FrameOffer, o); err != nil {
		return t, err
	}
	for {
		kind, p, err := r.Next()
		if err != nil {
			return t, err
		}
		switch kind {
		case bundle.FrameWant:
			if err := bundle.Unmarshal(p, &t.want); err != nil {
				return t, err
			}
			if err := l.send(w, o, t.want); err != nil {
				return t, err
			}
		case bundle.FrameEvent:
			var e bundle.Event
			if err := bundle.Unmarshal(p, &e); err != nil {
				return t, err
			}
			t.events = append(t.events, e.Step)
		case bundle.FrameResult:
			t.res = &bundle.Result{}
			return t, bundle.Unmarshal(p, t.res)
		default:
			return t, fmt.Errorf("frame %q", kind)
		}
	}
}

func (l *load) send(w io.Writer, o bundle.Offer, want bundle.Want) error {
	if l.meanwhile != nil {
		l.meanwhile()
	}
	for kind, digests := range map[string][]string{bundle.BlobFile: want.Files, bundle.BlobPackage: want.Packages} {
		for _, d := range digests {
			p := l.bytes[d]
			if err := wire.WriteBlob(w, bundle.Blob{Kind: kind, Name: d, Size: int64(len(p))}, bytes.NewReader(p)); err != nil {
				return err
			}
		}
	}
	for _, k := range o.Manifest.Keys {
		if k.Name == l.lost {
			continue
		}
		v := []byte(l.keys[k.Name])
		if bytes.Equal(want.Keys[k.Name], bundle.KeyMAC(o.Nonce, v)) {
			continue
		}
		if err := wire.WriteBlob(w, bundle.Blob{Kind: bundle.BlobKey, Name: k.Name, Size: int64(len(v))}, bytes.NewReader(v)); err != nil {
			return err
		}
	}
	return wire.WriteFrame(w, bundle.FrameEnd, struct{}{})
}

// deploy makes the box hold l, and fails the test on anything but the outcome wanted.
func (b *box) deploy(l *load, outcome string) told {
	b.t.Helper()
	return b.deployOffer(l.offer(), l, outcome)
}

func (b *box) deployOffer(o bundle.Offer, l *load, outcome string) told {
	b.t.Helper()
	t, err := b.talk(o, l)
	if err != nil {
		b.t.Fatalf("session of %s: %v", o.Run, err)
	}
	if t.res.Outcome != outcome {
		b.t.Fatalf("outcome of %s = %s (%s), want %s", o.Run, t.res.Outcome, t.res.Error, outcome)
	}
	return t
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}
