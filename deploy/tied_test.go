package deploy_test

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/drift"
	"bellhop/deploy/routes"
	"bellhop/internal/history"
)

// Services that are tied by a path, a group, a drop-in or a unit move together, also where only one of them has
// the thing in each commit.
func TestServicesTiedByThings(t *testing.T) {
	const extra = "[Service]\nExecStart=/bin/extra\n[Install]\nWantedBy=multi-user.target\n"
	for name, tc := range map[string]struct {
		was, now map[string]string // files of the repo, in each commit
		by       string
	}{
		"a path that moves": {
			was: map[string]string{"services/s00/files/etc/shared.conf": "shared\n"},
			now: map[string]string{"services/s01/files/etc/shared.conf": "shared\n"},
			by:  "path /etc/shared.conf",
		},
		"a path below a path": {
			was: map[string]string{"services/s00/files/etc/shared": "shared\n"},
			now: map[string]string{"services/s01/files/etc/shared/conf": "shared\n"},
			by:  "path /etc/shared",
		},
		"a unit that moves": {
			was: map[string]string{"services/s00/extra.service": extra},
			now: map[string]string{"services/s01/extra.service": extra},
			by:  "unit extra.service",
		},
		"a drop-in that moves": {
			was: map[string]string{"services/s00/ssh.service.d/limits.conf": "[Service]\nNice=1\n"},
			now: map[string]string{"services/s01/ssh.service.d/limits.conf": "[Service]\nNice=2\n"},
			by:  "unit ssh.service",
		},
		"drop-ins of one unit": {
			was: map[string]string{"services/s00/ssh.service.d/one.conf": "[Service]\nNice=1\n", "services/s01/ssh.service.d/two.conf": "[Service]\nCPUWeight=1\n"},
			now: map[string]string{"services/s00/ssh.service.d/one.conf": "[Service]\nNice=2\n", "services/s01/ssh.service.d/two.conf": "[Service]\nCPUWeight=2\n"},
			by:  "unit ssh.service",
		},
		"a group": {
			was: map[string]string{"services/s00/service.yaml": "user: { name: ann, group: both }\n", "services/s01/service.yaml": "user: { name: bob, group: both }\n"},
			now: map[string]string{"services/s00/service.yaml": "user: { name: ann, group: both }\n", "services/s01/service.yaml": "user: { name: bob, group: both }\n"},
			by:  "group both",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			numbered(w, "a", 3, "one\n")
			maps.Copy(w.files, tc.was)
			w.push("first", history.OutcomeDone)
			for p := range tc.was {
				delete(w.files, p)
			}
			numbered(w, "a", 3, "two\n")
			maps.Copy(w.files, tc.now)
			breaks(w, "s01")
			w.push("second", history.OutcomePartial)
			wantServices(w, "a", "s00 held-back 01", "s01 held-back 01", "s02 current 02")
			if holds(w, "a", "s00") != "one\n" || holds(w, "a", "s02") != "two\n" {
				t.Errorf("s00 holds %q, s02 %q", holds(w, "a", "s00"), holds(w, "a", "s02"))
			}
			if e := *w.state("a").Services[0].Error; e != "it shares "+tc.by+" with s01" {
				t.Errorf("s00: %s, want it to share %s", e, tc.by)
			}
		})
	}
}

// A group that an undone run made stays, as its user does, and the next run takes it as it is.
func TestGroupsAfterAnUndo(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 1, "one\n")
	w.push("first", history.OutcomeDone)
	w.files["services/s00/service.yaml"] = "user: { name: ann, group: crew }\n"
	breaks(w, "s00")
	r := w.push("second", history.OutcomeFailed)
	m := w.machines["a"].Host()
	_, hasGroup, err := m.Accounts.Group("crew")
	w.must(err)
	a, hasUser, err := m.Accounts.User("ann")
	w.must(err)
	if !hasGroup || !hasUser || a.Group != "crew" {
		t.Errorf("after the undo: group %v, user %v (%+v); want both to stay, and: %s", hasGroup, hasUser, a, w.tell(r))
	}
	if details := string(r.Hosts[0].Details); !strings.Contains(details, "user ann") {
		t.Errorf("the run does not tell that the user stays: %s", details)
	}
	mends(w, "s00")
	w.push("third", history.OutcomeDone)
	w.files["services/s00/service.yaml"] = "user: { name: ann, group: other }\n"
	w.push("fourth", history.OutcomeDone)
	if a, _, _ := m.Accounts.User("ann"); a.Group != "other" {
		t.Errorf("ann is in %s, want other", a.Group)
	}
}

// A look and a command are answered while a run is at work and its units settle. A push of keys alone comes after
// the run, and has nothing to settle itself.
func TestOthersDuringASettle(t *testing.T) {
	w := newWorld(t, "a")
	w.vault(1, w.realAge(), func(int) string { return "sesame" })
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]

	asked := false
	m.Host().Reached = func(step string) {
		if step != "start" || asked { // its units were started, and begin to settle
			return
		}
		asked = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := w.pool.Output(ctx, routes.Remembered("a", w.db.Hosts()), "echo hello")
		if err != nil || strings.TrimSpace(out) != "hello" {
			t.Errorf("a command during a settle: %q, %v", out, err)
		}
		all, err := w.d.Looker().Drift(ctx, drift.Request{On: "a"})
		if err != nil || len(all) != 1 {
			t.Errorf("a look during a settle: %+v, %v", all, err)
		}
	}
	w.files["services/vault/files/etc/vault.conf"] = "two\n"
	w.push("second", history.OutcomeDone)
	if !asked {
		t.Fatal("the run came to no settle")
	}

	m.Host().Reached, m.Host().Settle = nil, time.Hour
	w.must(os.Remove(m.Path("/run/keys/key0")))
	if _, err := w.d.Keys().Push(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if got := read(t, m.Path("/run/keys/key0")); got != "sesame" {
		t.Errorf("key0 holds %q", got)
	}
}
