package host_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/keys"
)

// readOnlyBox is a box whose place for keys is a ramfs that is read-only for everybody but the
// helper, as on a real host.
func readOnlyBox(t *testing.T) *box {
	b := newBox(t)
	dir := b.path(bundle.KeyDir)
	os.MkdirAll(dir, 0o750)
	if err := unix.Mount("ramfs", dir, "ramfs", 0, "mode=0750"); err != nil {
		t.Skip("mount a ramfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := keys.ReadOnly(dir); err != nil {
		t.Skip(err)
	}
	b.writable = func() (*os.File, error) { return keys.Writable(dir) }
	return b
}

func (b *box) closed(after string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(bundle.KeyDir+"/x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		b.t.Errorf("after %s the place for keys can be written: %v", after, err)
	}
	es, _ := os.ReadDir(b.path(bundle.KeyDir))
	for _, e := range es {
		if strings.HasPrefix(e.Name(), ".") {
			b.t.Errorf("after %s %s is left", after, e.Name())
		}
	}
}

// A life of keys in a place that is read-only: they come, change, go back, and leave.
func TestKeysInAPlaceThatIsReadOnly(t *testing.T) {
	b := readOnlyBox(t)
	conf := func(value string) *load {
		l := bot("one").key("deep", "template "+value).key("sealed", "sealed "+value)
		l.keys["token"] = value
		l.Keys[1].Path = "/run/keys/files/etc/bot/deep.conf"
		l.Keys[2].Seal = true
		return l
	}
	want := func(after, value string) {
		t.Helper()
		b.closed(after)
		for name, want := range map[string]string{"token": value, "files/etc/bot/deep.conf": "template " + value, "sealed": "sealed " + value} {
			if got := b.read("/run/keys/" + name); got != want {
				t.Errorf("after %s key %s is %q, want %q", after, name, got, want)
			}
		}
		if !b.Opens(context.Background(), "sealed", []byte("sealed "+value)) {
			t.Errorf("after %s the sealed copy is another", after)
		}
	}
	b.deploy(conf("first"), bundle.OutcomeDone)
	want("the first deploy", "first")
	b.deploy(conf("second"), bundle.OutcomeDone)
	want("a rotation", "second")

	b.fail["new.service"] = true
	b.deploy(conf("third").service("new.service", "[Service]"), bundle.OutcomeRolledBack)
	want("an undone run", "second")

	l := conf("fourth")
	l.lost = "token"
	b.deploy(l, bundle.OutcomeDone) // it does not open, and stands
	if b.read("/run/keys/token") != "second" {
		t.Errorf("a key that did not come is %q", b.read("/run/keys/token"))
	}
	b.closed("a key that did not come")

	b.deploy(bot("one"), bundle.OutcomeDone)
	b.closed("keys left")
	if _, err := os.Stat(b.path("/run/keys/files")); err == nil {
		t.Error("the folders of a template's key stay")
	}
	if res := b.ask(bundle.Ask{Verb: bundle.AskUndo}); res.Outcome != bundle.OutcomeDone {
		t.Fatalf("undo = %+v", res)
	}
	b.closed("the host was given back")
	if es, _ := os.ReadDir(b.path(bundle.KeyDir)); len(es) != 0 {
		t.Errorf("%v is left", es)
	}
}

// A run that is killed while it places keys is undone in a place that is read-only.
func TestKilledWhileKeysArePlaced(t *testing.T) {
	for _, step := range []string{"renamed /run/keys/token", "keys", "start"} {
		b := readOnlyBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		l := bot("two")
		l.keys["token"] = "rotated"
		run := b.stageOnly(l)
		func() {
			defer func() { recover() }()
			b.m.Reached = func(at string) {
				if at == step {
					panic(killed{at})
				}
			}
			host.Apply(context.Background(), b.m, run)
			t.Errorf("the run never came to %s", step)
		}()
		b.m.Reached = nil
		if err := host.Settle(context.Background(), b.m); err != nil {
			t.Fatal(err)
		}
		b.closed("settle")
		if got := b.read("/run/keys/token"); got != "hunter2" {
			t.Errorf("killed at %s: key = %q, want the former one", step, got)
		}
	}
}

// Where others can write to the place too, that is told once.
func TestOpenPlaceIsToldOnce(t *testing.T) {
	b := newBox(t)
	b.openTo = errors.New("operation not permitted")
	told := func(l *load, outcome string) bool {
		t.Helper()
		return strings.Contains(strings.Join(b.deploy(l, outcome).res.Warnings, "\n"), "can't be kept read-only between pushes")
	}
	if !told(bot("one"), bundle.OutcomeDone) {
		t.Error("it was not told")
	}
	if told(bot("two"), bundle.OutcomeDone) || told(bot("two"), bundle.OutcomeNothing) {
		t.Error("it was told again")
	}
	b.openTo = nil
	b.deploy(bot("three"), bundle.OutcomeDone)
	b.openTo = errors.New("operation not permitted")
	if !told(bot("four"), bundle.OutcomeDone) {
		t.Error("a place that can be written again is not told")
	}
}
