package bundle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"bellhop/internal/bundle"
)

// many is a manifest with n keys and their units; skip leaves some out, and edit changes some.
func many(n int, skip, edit func(int) bool) bundle.Manifest {
	m := bundle.Manifest{Network: "net", Host: "h"}
	for i := range n {
		if skip(i) {
			continue
		}
		name, mode := fmt.Sprintf("key%03d", i), uint32(0o400)
		if edit(i) {
			mode = 0o440
		}
		p := bundle.UnitDir + "/" + name + "-key.service"
		m.Keys = append(m.Keys, bundle.Key{Name: name, Path: bundle.KeyDir + "/" + name, User: "root", Group: "root", Mode: mode, Digest: "secret"})
		m.Files = append(m.Files, bundle.File{Path: p, Digest: bundle.DigestBytes([]byte(fmt.Sprint(name, mode))), Mode: 0o644, User: "root", Group: "root"})
		m.Units = append(m.Units, bundle.Unit{Name: name + "-key.service", KeyUnit: true, OnChange: bundle.None, Files: []string{p}, On: map[string]string{"a": "},"}})
	}
	return m
}

func never(int) bool { return false }

func TestDelta(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	some := func(n int) func(int) bool { return func(int) bool { return rng.IntN(n) == 0 } }
	for i := range 200 {
		old, new := many(20, some(4), some(5)), many(20, some(4), some(5))
		if i == 0 {
			old = bundle.Manifest{}
		}
		d, err := bundle.NewDelta(old, new)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := json.Marshal(d)
		var came bundle.Delta
		if err := json.Unmarshal(p, &came); err != nil {
			t.Fatal(err)
		}
		other := old
		other.Host = "another of the same kind"
		got, err := came.Apply(other)
		want := new.WithoutKeyDigests()
		want.Host = ""
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("delta %d: %v\n got %+v\nwant %+v", i, err, got, want)
		}
		old.Network = "elsewhere"
		if _, err := came.Apply(old); !errors.Is(err, bundle.ErrDelta) {
			t.Errorf("on another manifest: %v, want ErrDelta", err)
		}
	}
	d, _ := bundle.NewDelta(many(201, never, never), many(201, never, func(i int) bool { return i == 77 }))
	if p, _ := json.Marshal(d); len(p) > 1000 {
		t.Errorf("one of 201 keys makes a delta of %d bytes, want less than 1000", len(p))
	}
}

// FuzzDelta applies what a stranger may have written: it makes the manifest that it names, or
// none.
func FuzzDelta(f *testing.F) {
	old := many(5, never, never)
	for _, new := range []bundle.Manifest{old, {}, many(6, never, func(i int) bool { return i == 2 })} {
		d, _ := bundle.NewDelta(old, new)
		p, _ := json.Marshal(d)
		f.Add(p)
	}
	f.Add([]byte(`{"ops":[{"at":-1,"n":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var d bundle.Delta
		if json.Unmarshal(p, &d) != nil {
			return
		}
		m, err := d.Apply(old)
		if err != nil {
			return
		}
		if again, err := bundle.NewDelta(old, m); err != nil || again.From != d.From {
			t.Errorf("a delta from %s was taken on %s (%v)", d.From, again.From, err)
		}
	})
}
