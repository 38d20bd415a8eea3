package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// sealedFor has secrets be opened by one identity alone: a file "NAME:VALUE" is sealed for NAME.
func sealedFor(name string) func(fs.FS, string) ([]byte, error) {
	return func(tree fs.FS, path string) ([]byte, error) {
		b, err := fs.ReadFile(tree, path)
		if err != nil {
			return nil, err
		}
		value, ok := bytes.CutPrefix(b, []byte(name+":"))
		if !ok {
			return nil, errors.New("sealed for others")
		}
		return value, nil
	}
}

// hangs is a tree that is never read to its end.
type hangs struct{ until <-chan struct{} }

func (h hangs) Open(string) (fs.File, error) {
	<-h.until
	return nil, fs.ErrNotExist
}

// After a power cut of everything a host gets its keys, whatever keeps bellhop from deploying.
func TestKeysComeBackWhateverElseIsBroken(t *testing.T) {
	until := make(chan struct{}) // closed when the hosts have their keys
	for name, wreck := range map[string]func(w *world){
		"nothing": func(w *world) {},
		"the head is refused": func(w *world) {
			w.files["services/web/junk"] = "x"
			w.commit("a problem in the config")
		},
		"the head's config is no YAML": func(w *world) {
			w.commit("a good one")
			w.mu.Lock()
			defer w.mu.Unlock()
			w.commits[len(w.commits)-1].Tree = os.DirFS(t.TempDir())
		},
		"the repo is away": func(w *world) {
			w.d.Sync = func(context.Context) (commits.Snapshot, error) {
				return commits.Snapshot{}, errors.New("the git host is down")
			}
		},
		"the repo does not answer": func(w *world) {
			w.d.Sync = func(ctx context.Context) (commits.Snapshot, error) {
				<-ctx.Done()
				return commits.Snapshot{}, ctx.Err()
			}
		},
		"the history was rewritten": func(w *world) {
			w.d.Sync = func(context.Context) (commits.Snapshot, error) { return commits.Snapshot{}, commits.ErrRefused }
		},
		"runs are paused": func(w *world) { w.pause(stops.Pause{}) },
		"loading the head hangs": func(w *world) {
			w.commit("endless")
			w.mu.Lock()
			defer w.mu.Unlock()
			w.commits[len(w.commits)-1].Tree = hangs{until}
		},
		"a secret of the head does not open": func(w *world) {
			w.files["secrets/key1.age"] = "somebody else:value"
			w.commit("sealed for others")
		},
		"no secret of the head opens": func(w *world) {
			w.files["secrets/key0.age"] = "somebody else:value"
			w.files["secrets/key1.age"] = "somebody else:value"
			w.commit("sealed for others")
		},
		"the identity is another, and the head is refused": func(w *world) {
			w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) { // during the change both are held
				v, err := sealedFor("old")(tree, path)
				if err != nil {
					v, err = sealedFor("new")(tree, path)
				}
				return v, err
			}
			for _, f := range []string{"secrets/key0.age", "secrets/key1.age"} {
				w.files[f] = strings.Replace(w.files[f], "old:", "new:", 1)
			}
			w.push("sealed anew", history.OutcomeNothing)
			w.files["services/web/junk"] = "x"
			w.commit("a problem in the config")
			w.d = w.deployer("SHA256:one")
			w.d.Loader.Open = sealedFor("new")
		},
		"the host left the repo's head, which is refused": func(w *world) {
			delete(w.yaml, "a")
			w.files["services/web/junk"] = "x"
			w.commit("a problem in the config")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			w.d.Loader.Open = sealedFor("old")
			keyed(w, "a", 2, 5)
			for _, f := range []string{"secrets/key0.age", "secrets/key1.age"} {
				w.files[f] = "old:" + w.files[f]
			}
			w.push("first", history.OutcomeDone)

			w.d = w.deployer("SHA256:one") // the deployer was restarted
			w.d.Loader.Open = sealedFor("old")
			wreck(w)
			w.must(w.machines["a"].Reboot()) // and so was the host
			w.hosts["a"].Drop()
			serve(t, w)
			wantKeys(t, w)

			// A line is open now, so a second reboot is noticed as well.
			w.must(w.machines["a"].Reboot())
			w.hosts["a"].Drop()
			wantKeys(t, w)
			if strings.HasSuffix(name, "hangs") {
				close(until)
			}
		})
	}
}

func wantKeys(t *testing.T, w *world) {
	t.Helper()
	eventually(t, "the keys are back, and what waited for them runs", func() bool {
		_, err := os.Stat(w.machines["a"].Path("/run/keys/key1"))
		return err == nil && w.machines["a"].Active("vault.service")
	})
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); !strings.HasPrefix(got, "value 0") {
		t.Errorf("key0 came back as %q, want that of the generation that is there", got)
	}
}

// What a person asks of keys needs no repo either.
func TestKeyPushWhileTheRepoIsAway(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)

	w.d = w.deployer("SHA256:one")
	w.d.Sync = func(context.Context) (commits.Snapshot, error) {
		return commits.Snapshot{}, errors.New("the git host is down")
	}
	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if len(ks) != 1 || ks[0].Error != nil {
		t.Fatalf("PushKeys while the repo is away: %+v", ks)
	}
	wantKeys(t, w)
}

// A line that history opened is the one that the first plan wants: it is not opened twice. Through
// a jump host too.
func TestLinesFromHistoryStay(t *testing.T) {
	w := newWorld(t, "a", "gate")
	keyed(w, "a", 1, 5)
	w.yaml["a"] += "    jump: gate\n"
	w.push("first", history.OutcomeDone)

	w.d = w.deployer("SHA256:one")
	before := w.hosts["a"].Counts()
	b, _ := serve(t, w)
	eventually(t, "the line is open", func() bool { return w.hosts["a"].Counts().Sessions > before.Sessions })
	for _, cause := range []string{"start", "push", "push"} { // each may correct lines
		_, err := b.Follow(t.Context(), b.Ring(cause), func(follow.Event) {})
		w.must(err)
	}
	after := w.hosts["a"].Counts()
	if n := after.Sessions - before.Sessions; n != 1 {
		t.Errorf("%d sessions at a start with nothing to do, want the one of the line", n)
	}
}

// A host whose plug is pulled is not shown as if it were there, and comes back by itself.
func TestStatusOfAHostWithoutPower(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.commit("first")
	serve(t, w)
	eventually(t, "the host is current and reachable", func() bool {
		h, _ := w.db.Host("a")
		return h.State == history.Current && w.d.Reachable()["a"]
	})
	if h := w.state("a"); h.SeenAt == nil || h.AwaySince != nil || h.Keys.Present != 2 {
		t.Fatalf("a host that answers: seen %v, away since %v, keys %+v", h.SeenAt, h.AwaySince, h.Keys)
	}

	w.hosts["a"].Cut()
	eventually(t, "status says that it is away", func() bool { return w.state("a").AwaySince != nil })
	if h := w.state("a"); h.Keys.Present != 0 || w.d.Reachable()["a"] {
		t.Errorf("a host without power: keys %+v, reachable %v; want none present, not reachable", h.Keys, w.d.Reachable()["a"])
	}

	w.hosts["a"].Mend()
	eventually(t, "it is back", func() bool {
		h := w.state("a")
		return h.AwaySince == nil && h.Keys.Present == 2 && w.d.Reachable()["a"]
	})
}

// A host that shows another key is not counted as there either.
func TestStatusOfAHostWithAnotherKey(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.commit("first")
	serve(t, w)
	eventually(t, "the host is current and reachable", func() bool {
		h, _ := w.db.Host("a")
		return h.State == history.Current && w.d.Reachable()["a"]
	})

	w.must(w.hosts["a"].NewHostKey())
	w.hosts["a"].Drop()
	eventually(t, "status says so", func() bool {
		h := w.state("a")
		return h.AwaySince != nil && h.Keys.Present == 0 && h.State == history.Refused
	})
}

// The line to a host stays while it holds keys of which no plan tells any more: the head, which has none, failed there,
// and the host rebooted.
func TestLineOfAHostThatHoldsOtherKeysThanTheHead(t *testing.T) {
	w := newWorld(t, "a")
	w.top = "isolate: false\n"
	keyed(w, "a", 2, 5)
	b, _ := serve(t, w)
	follow := func() { _, _ = b.Follow(t.Context(), b.Ring("push"), func(follow.Event) {}) }
	w.commit("first")
	follow()
	breaks(w, "web")
	w.enable("a", "web") // without its keys
	w.commit("second")
	follow()
	w.wantState("a", history.RolledBack, w.commits[0].Commit)

	w.must(w.db.Correct(t.Context(), "a", func(h *history.Host) {
		h.Digest, h.KeysPresent = "", 0 // not undone whole; and as it said after a reboot, before its line broke
	}))
	follow()
	w.must(w.machines["a"].Reboot())
	w.hosts["a"].Drop()
	wantKeys(t, w)
}
