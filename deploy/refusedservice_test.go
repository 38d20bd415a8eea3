package deploy_test

import (
	"os"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
)

// What a host can't have of one service, or of two, holds back those services: the others come to the commit, in
// one session more. When it was put right on the host, a retry brings them too.
func TestServicesThatTheHostRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string // of the second commit
		spoil func(w *world)
		mend  func(w *world)
		bad   []string // services
		says  string   // of each of them
	}{
		"a masked unit that changes": {
			spoil: func(w *world) { w.must(w.machines["a"].Mask("s01.service")) },
			mend:  func(w *world) { w.must(w.machines["a"].Unmask("s01.service")) },
			bad:   []string{"s01"}, says: "is masked on the host",
		},
		"two masked units": {
			spoil: func(w *world) { w.must(w.machines["a"].Mask("s01.service"), w.machines["a"].Mask("s02.service")) },
			mend:  func(w *world) { w.must(w.machines["a"].Unmask("s01.service"), w.machines["a"].Unmask("s02.service")) },
			bad:   []string{"s01", "s02"}, says: "is masked on the host",
		},
		"a masked unit that is new": {
			files: map[string]string{"services/s01/other.service": "[Service]\nExecStart=/bin/other\n[Install]\nWantedBy=multi-user.target\n"},
			spoil: func(w *world) { w.must(w.machines["a"].Mask("other.service")) },
			mend:  func(w *world) { w.must(w.machines["a"].Unmask("other.service")) },
			bad:   []string{"s01"}, says: "unit other.service is masked on the host",
		},
		"an owner that the host does not know": {
			files: map[string]string{"services/s01/service.yaml": "files: { /etc/s01.conf: { user: nobody-here, group: nogroup } }\n"},
			mend:  func(w *world) { w.machines["a"].AddUser("nobody-here", "nogroup", "/") },
			bad:   []string{"s01"}, says: "the host has no user nobody-here",
		},
		"a user that was there before": {
			files: map[string]string{"services/s01/service.yaml": "user: { name: ann }\n"},
			spoil: func(w *world) { w.machines["a"].AddUser("ann", "staff", "/home/ann") },
			bad:   []string{"s01"}, says: "user ann was on the host before bellhop",
		},
		"a group that nobody makes": {
			files: map[string]string{"services/s01/service.yaml": "user: { name: sam, extra_groups: [lovers] }\n"},
			bad:   []string{"s01"}, says: "the host has no group lovers",
		},
		"a folder in the place of a file": {
			files: map[string]string{"services/s01/files/etc/more.conf": "more\n"},
			spoil: func(w *world) { w.must(os.Mkdir(w.machines["a"].Path("/etc/more.conf"), 0o755)) },
			mend:  func(w *world) { w.must(os.Remove(w.machines["a"].Path("/etc/more.conf"))) },
			bad:   []string{"s01"}, says: "/etc/more.conf is on the host, and is no file",
		},
		"a path that leads where units are": {
			files: map[string]string{"services/s01/files/etc/alias/x.conf": "more\n"},
			spoil: func(w *world) { w.must(os.Symlink("/etc/systemd/system", w.machines["a"].Path("/etc/alias"))) },
			mend:  func(w *world) { w.must(os.Remove(w.machines["a"].Path("/etc/alias"))) },
			bad:   []string{"s01"}, says: "is a place for units",
		},
		"two of different kinds": {
			files: map[string]string{"services/s01/service.yaml": "files: { /etc/s01.conf: { user: nobody-here, group: nogroup } }\n"},
			spoil: func(w *world) { w.must(w.machines["a"].Mask("s02.service")) },
			mend: func(w *world) {
				w.machines["a"].AddUser("nobody-here", "nogroup", "/")
				w.must(w.machines["a"].Unmask("s02.service"))
			},
			bad: []string{"s01", "s02"}, says: "the host",
		},
		"a command that the host does not have": {
			files: map[string]string{"services/s01/service.yaml": "needs: [teapot]\n"},
			spoil: func(w *world) { w.machines["a"].Lack("teapot") },
			bad:   []string{"s01"}, says: "service s01 needs the command teapot",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			numbered(w, "a", 4, "one\n")
			first := w.push("first", history.OutcomeDone)
			if tc.spoil != nil {
				tc.spoil(w)
			}
			numbered(w, "a", 4, "two\n")
			for p, text := range tc.files {
				w.files[p] = text
			}

			before := w.sessions("a")
			w.push("second", history.OutcomePartial)
			if got := w.sessions("a") - before; got != 2 {
				t.Errorf("%d sessions, want 2: the push, and one without %q", got, tc.bad)
			}
			w.wantState("a", history.HeldBack, *first.Commit)
			wantHeld(w, tc.bad, tc.says)

			// While it is in the way, what others change goes on, and what is held stays as it is.
			before = w.sessions("a")
			w.files["services/s03/files/etc/s03.conf"] = "three\n"
			w.push("third", history.OutcomePartial)
			if got := w.sessions("a") - before; got != 1 || holds(w, "a", "s03") != "three\n" {
				t.Errorf("%d sessions, want 1; s03 holds %q", got, holds(w, "a", "s03"))
			}
			wantHeld(w, tc.bad, tc.says)

			// A retry finds the same at once, though the host was sent all bytes before.
			before = w.sessions("a")
			w.run(plan.Request{Cause: "deploy", On: "a", Retry: true}, history.OutcomeRefused)
			if got := w.sessions("a") - before; got != 1 {
				t.Errorf("%d sessions of a retry in vain, want 1", got)
			}
			wantHeld(w, tc.bad, tc.says)

			if tc.mend == nil {
				return
			}
			tc.mend(w)
			w.run(plan.Request{Cause: "deploy", On: "a", Retry: true}, history.OutcomeDone)
			for _, s := range tc.bad {
				if holds(w, "a", s) != "two\n" {
					t.Errorf("%s holds %q once it was mended", s, holds(w, "a", s))
				}
			}
		})
	}
}

// wantHeld compares which services of host a are held back, each for a reason that says so; the others are at the
// second version or later.
func wantHeld(w *world, bad []string, says string) {
	w.t.Helper()
	var held []string
	for _, s := range w.state("a").Services {
		if s.State == services.Current {
			if s.Name != "s03" && holds(w, "a", s.Name) != "two\n" {
				w.t.Errorf("%s is current and holds %q", s.Name, holds(w, "a", s.Name))
			}
			continue
		}
		held = append(held, s.Name)
		if s.Error == nil || !strings.Contains(*s.Error, says) {
			w.t.Errorf("%s is %s: %v, want %q", s.Name, s.State, s.Error, says)
		}
		if holds(w, "a", s.Name) != "one\n" {
			w.t.Errorf("%s is held back and holds %q", s.Name, holds(w, "a", s.Name))
		}
	}
	if strings.Join(held, " ") != strings.Join(bad, " ") {
		w.t.Errorf("held back are %q, want %q", held, bad)
	}
}

// A unit that somebody masked holds back its service also where the commit changes nothing of it, and what stands
// in the mask's place is left to them.
func TestMaskedUnitOfAServiceThatStays(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]
	w.must(m.Mask("s01.service"))
	for _, text := range []string{"two\n", "three\n"} {
		w.files["services/s02/files/etc/s02.conf"] = text
		w.push(text, history.OutcomePartial)
		if got, _ := os.Readlink(m.Path("/etc/systemd/system/s01.service")); holds(w, "a", "s02") != text || got != "/dev/null" {
			t.Errorf("s02 holds %q, want %q; the mask is %q", holds(w, "a", "s02"), text, got)
		}
	}
	w.must(m.Unmask("s01.service"))
	w.run(plan.Request{Cause: "deploy", On: "a", Retry: true}, history.OutcomeDone)
	if !m.Active("s01.service") || !m.Active("s02.service") {
		t.Errorf("once it was unmasked: s01 runs %v, s02 runs %v", m.Active("s01.service"), m.Active("s02.service"))
	}
}
