package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// twoKeys has a key that is another user's and one that the next bundle has not.
func twoKeys(value string) *load {
	l := bot("one").key("leaves", "goes")
	for i := range l.Keys {
		l.Keys[i].User, l.Keys[i].Group, l.Keys[i].Mode = "bot", "bot", 0o440
	}
	l.keys["token"] = value
	return l
}

// nextKeys changes one of the keys of twoKeys, to another owner and mode, and removes the other.
func nextKeys() *load {
	l := bot("one")
	l.keys["token"] = "rotated"
	return l
}

// keptKeys are the files below /run/keys/.before, with owner and mode, by value.
func (b *box) keptKeys() map[string]string {
	b.t.Helper()
	kept := map[string]string{}
	before := b.path("/run/keys/.before")
	err := filepath.Walk(before, func(p string, st os.FileInfo, err error) error {
		name := p[len(b.dir):]
		switch {
		case err != nil:
			return err
		case st.IsDir() && st.Mode().Perm() != 0o700:
			b.t.Errorf("%s has mode %v, want 0700", name, st.Mode())
		case !st.IsDir():
			kept[b.read(name)] = fmt.Sprintf("%v %v", b.ownerOf(name), st.Mode().Perm())
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	return kept
}

// What a run replaces or removes is root's alone until the run has ended, and comes back as it was.
func TestKeysBefore(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		t.Run(fmt.Sprintf("confirmed %v", confirmed), func(t *testing.T) {
			b := newBox(t)
			b.deploy(twoKeys("hunter2"), bundle.OutcomeDone)
			old := b.all()
			l := nextKeys()
			o := l.confirming(300)
			outcome := bundle.OutcomeUnconfirmed
			b.whileWaiting(func() {
				kept := b.keptKeys()
				if want := "[root root] -rw-------"; len(kept) != 2 || kept["hunter2"] != want || kept["goes"] != want {
					t.Errorf("kept are %q, want hunter2 and goes as %s", kept, want)
				}
				if confirmed {
					outcome = bundle.OutcomeDone
					b.confirm(o.Run)
				}
			})
			got, err := b.talk(o, l)
			if err != nil || got.res.Outcome != outcome {
				t.Fatalf("result %+v, %v, want %s", got.res, err, outcome)
			}
			if kept := b.keptKeys(); len(kept) > 0 {
				t.Errorf("%q are kept after the run", kept)
			}
			if !confirmed {
				b.compare(old, "after nobody confirmed")
			} else if b.read("/run/keys/token") != "rotated" || b.ownerOf("/run/keys/token") != [2]string{"root", "root"} {
				t.Errorf("token is %q of %v", b.read("/run/keys/token"), b.ownerOf("/run/keys/token"))
			}
		})
	}
}

// A key that was given away by hand comes back as it was by hand: a run that is undone changes
// nothing.
func TestKeyGivenAwayByHandComesBackSo(t *testing.T) {
	b := newBox(t)
	b.deploy(twoKeys("hunter2"), bundle.OutcomeDone)
	b.give("/run/keys/token", "root", "keys")
	if err := os.Chmod(b.path("/run/keys/token"), 0o404); err != nil {
		t.Fatal(err)
	}
	old := b.all()
	l := nextKeys()
	b.deployOffer(l.confirming(shortWindow), l, bundle.OutcomeUnconfirmed)
	b.compare(old, "after nobody confirmed")
}

// A run of the former release kept what it replaced elsewhere, with owner and mode, and said in its
// journal of neither.
func TestKeysKeptByFormerRelease(t *testing.T) {
	b := newBox(t)
	b.deploy(twoKeys("hunter2"), bundle.OutcomeDone)
	old := b.all()
	run := b.stageOnly(nextKeys())
	if _, died := b.dieWhen("keys", func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatal("it did not die")
	}

	was := b.path("/run/keys/.old-" + run)
	if err := os.Rename(b.path("/run/keys/.before/"+run), was); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.path("/run/keys/.before")); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadDir(was)
	if err != nil || len(kept) != 2 {
		t.Fatalf("%d keys are kept, %v", len(kept), err)
	}
	for _, e := range kept {
		name := "/run/keys/.old-" + run + "/" + e.Name()
		b.give(name, "bot", "bot")
		if err := os.Chmod(b.path(name), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	b.editJournal(func(j map[string]any) {
		for _, k := range j["keys"].([]any) {
			delete(k.(map[string]any), "was")
		}
	})

	b.comeBack(run, false)
	b.compare(old, "after the journal of a former release was undone")
}
