package host_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// ahead is the whole of what a deployer says that speaks first, and what it hears for it, frame
// by frame.
func (b *box) ahead(o bundle.Offer, l *load, digests []string, rest ...byte) (kinds []byte, res *bundle.Result, err error) {
	b.t.Helper()
	defer b.settled()
	var in, out bytes.Buffer
	if o.Ahead == 0 {
		o.Ahead = len(digests)
	}
	bundle.WriteFrame(&in, bundle.FrameOffer, o)
	for _, d := range digests {
		p := l.bytes[d]
		bundle.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobFile, Name: d, Size: int64(len(p))}, bytes.NewReader(p))
	}
	for _, kind := range rest {
		bundle.WriteFrame(&in, kind, struct{}{})
	}
	err = host.ServeAhead(context.Background(), b.m, &in, &out)
	r := bundle.NewReader(&out)
	if _, noise := r.SkipNoise(); noise != nil {
		return nil, nil, err
	}
	for {
		kind, p, end := r.Next()
		if end != nil {
			return kinds, res, err
		}
		if kind != bundle.FrameEvent {
			kinds = append(kinds, kind)
		}
		if kind == bundle.FrameResult {
			res = &bundle.Result{}
			bundle.Unmarshal(p, res)
		}
	}
}

func page(text string) *load {
	return newLoad().service("web.service", "[Service]\nExecStart=/web\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/web").file("/etc/web", text)
}

func digestsOf(texts ...string) (ds []string) {
	for _, s := range texts {
		ds = append(ds, bundle.DigestBytes([]byte(s)))
	}
	return ds
}

func TestOfferAhead(t *testing.T) {
	heard := func(kinds ...byte) []byte { return kinds }
	const hello, want, result = bundle.FrameHello, bundle.FrameWant, bundle.FrameResult
	for _, tt := range []struct {
		name    string
		new     *load
		change  func(*bundle.Offer)
		digests []string
		rest    []byte
		hear    []byte
		outcome string // "" for a session that ends without a result
		holds   string // /etc/web afterwards
	}{
		{name: "all comes with the offer", new: page("two"), digests: digestsOf("two"), hear: heard(hello, result), outcome: bundle.OutcomeDone, holds: "two"},
		{name: "nothing is lacking", new: page("one"), hear: heard(hello, result), outcome: bundle.OutcomeNothing, holds: "one"},
		{name: "what is there already comes again", new: page("one"), digests: digestsOf("one"), hear: heard(hello, result), outcome: bundle.OutcomeNothing, holds: "one"},
		{name: "it may not go on by itself", new: page("two"), change: func(o *bundle.Offer) { o.Go = false }, digests: digestsOf("two"), rest: []byte{bundle.FrameEnd},
			hear: heard(hello, want, result), outcome: bundle.OutcomeDone, holds: "two"},
		{name: "it may not go on by itself, and the line is cut", new: page("two"), change: func(o *bundle.Offer) { o.Go = false }, digests: digestsOf("two"),
			hear: heard(hello, want), holds: "one"},
		{name: "one more file is lacking", new: page("two").file("/etc/more", "more"), digests: digestsOf("two"), hear: heard(hello, want), holds: "one"},
		{name: "a key is always asked for", new: page("two").key("token", "secret"), digests: digestsOf("two", "key unit"), hear: heard(hello, want), holds: "one"},
		{name: "it stands elsewhere", new: page("two"), change: func(o *bundle.Offer) { o.Base = 7 }, digests: digestsOf("two"), hear: heard(hello, result), outcome: bundle.OutcomeRefused, holds: "one"},
		{name: "less comes than was said", new: page("two"), change: func(o *bundle.Offer) { o.Ahead = 1 << 40 }, digests: digestsOf("two"), holds: "one"},
		{name: "a negative number", new: page("two"), change: func(o *bundle.Offer) { o.Ahead = -1 }, hear: heard(hello, want), holds: "one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t)
			b.deploy(page("one"), bundle.OutcomeDone)
			o := tt.new.offer()
			o.Base, o.Go = 1, true
			if tt.change != nil {
				tt.change(&o)
			}
			tt.new.bytes[bundle.DigestBytes([]byte("key unit"))] = []byte("key unit")
			kinds, res, err := b.ahead(o, tt.new, tt.digests, tt.rest...)
			if !slices.Equal(kinds, tt.hear) {
				t.Errorf("heard %q (%v), want %q", kinds, err, tt.hear)
			}
			outcome := ""
			if res != nil {
				outcome = res.Outcome
			}
			if outcome != tt.outcome {
				t.Errorf("outcome %q (%+v), want %q", outcome, res, tt.outcome)
			}
			if got := b.read("/etc/web"); got != tt.holds {
				t.Errorf("/etc/web holds %q, want %q", got, tt.holds)
			}
		})
	}
}

// A file that comes unasked is no other than its name says, and no key.
func TestOnlyFilesComeUnasked(t *testing.T) {
	b := newBox(t)
	b.deploy(page("one"), bundle.OutcomeDone)
	l := page("two")
	two := digestsOf("two")
	l.bytes[two[0]] = []byte("2wo")
	o := l.offer()
	o.Base, o.Go = 1, true
	if _, res, err := b.ahead(o, l, two); err == nil || res != nil {
		t.Errorf("other bytes under its name: %+v, %v", res, err)
	}
	var in, out bytes.Buffer
	o = page("three").key("token", "x").offer()
	o.Base, o.Ahead = 1, 1
	bundle.WriteFrame(&in, bundle.FrameOffer, o)
	bundle.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobKey, Name: "token", Size: 1}, bytes.NewReader([]byte("x")))
	if err := host.ServeAhead(context.Background(), b.m, &in, &out); err == nil {
		t.Error("a key came unasked, and was taken")
	}
	if got := b.read("/etc/web"); got != "one" {
		t.Errorf("/etc/web holds %q, want what stood", got)
	}
}
