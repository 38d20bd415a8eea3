package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/internal/host/machine"
	"bellhop/internal/plain"
)

// numbered writes services s00, s01 … with the text in the file of each, and switches them on.
func numbered(w *world, host string, n int, text string) (names []string) {
	for i := range n {
		name := fmt.Sprintf("s%02d", i)
		w.service(name, map[string]string{"files/etc/" + name + ".conf": text})
		names = append(names, name)
	}
	w.enable(host, names...)
	return names
}

// breaks has the unit of a service fail at every start, until mends.
func breaks(w *world, service string) {
	w.files["services/"+service+"/"+service+".service"] = "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
}

func mends(w *world, service string) {
	w.files["services/"+service+"/"+service+".service"] = fmt.Sprintf(unit, service)
}

// holds says what the file of a service reads on the host; "" when it is not there.
func holds(w *world, host, service string) string {
	p, err := os.ReadFile(w.machines[host].Path("/etc/" + service + ".conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	w.must(err)
	return string(p)
}

// wantServices compares how the services of a host stand, as "name state commit".
func wantServices(w *world, host string, want ...string) {
	w.t.Helper()
	var got []string
	for _, s := range w.state(host).Services {
		commit := "nowhere"
		if s.Commit != nil {
			commit = (*s.Commit)[38:]
		}
		got = append(got, s.Name+" "+string(s.State)+" "+commit)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("services of %s: %q, want %q", host, got, want)
	}
}

func recordOf(w *world, host string) (rec bundle.Record) {
	w.t.Helper()
	p, err := os.ReadFile(w.machines[host].Path(bundle.RecordPath))
	w.must(err)
	w.must(json.Unmarshal(p, &rec))
	return rec
}

// Of twenty services one is bad: the other nineteen come to the commit, with one session more, and the
// bad one runs as before. It is not tried again by pushes that leave it alone.
func TestOneBadService(t *testing.T) {
	w := newWorld(t, "a")
	names := numbered(w, "a", 20, "one\n")
	first := w.push("first", history.OutcomeDone)
	numbered(w, "a", 20, "two\n")
	breaks(w, "s07")
	before := w.sessions("a")
	second := w.push("second", history.OutcomePartial)
	if got := w.sessions("a") - before; got != 2 {
		t.Errorf("%d sessions, want 2: the push, and one without s07", got)
	}
	w.wantState("a", history.HeldBack, *first.Commit)
	if second.Hosts[0].Outcome == nil || *second.Hosts[0].Outcome != history.OutcomeHeldBack {
		t.Errorf("outcome of the host: %s", w.tell(second))
	}

	for _, name := range names {
		want := "two\n"
		if name == "s07" {
			want = "one\n"
		}
		if got := holds(w, "a", name); got != want || !w.machines["a"].Active(name+".service") {
			t.Errorf("%s holds %q (runs: %v), want %q", name, got, w.machines["a"].Active(name+".service"), want)
		}
	}
	if e := *w.state("a").Error; !strings.HasPrefix(e, "service s07 stays at 0000000") || !strings.Contains(e, "s07.service") || !strings.Contains(e, "bellhop deploy --retry") {
		t.Errorf("error of the host: %s", e)
	}
	states := w.state("a").Services
	if len(states) != 20 || states[7].State != services.Held || *states[7].Commit != *first.Commit || states[8].State != services.Current || *states[8].Commit != *second.Commit {
		t.Errorf("services: %+v", states)
	}
	if o := recordOf(w, "a").Origins; len(o) != 20 || o[7] != (bundle.Origin{Service: "s07", Commit: *first.Commit}) || o[8].Commit != *second.Commit {
		t.Errorf("the record has the origins %+v", o)
	}

	before = w.sessions("a")
	w.files["services/s00/files/etc/s00.conf"] = "three\n"
	third := w.push("third", history.OutcomePartial)
	if got := w.sessions("a") - before; got != 1 || holds(w, "a", "s00") != "three\n" || holds(w, "a", "s07") != "one\n" {
		t.Errorf("%d sessions, want 1; s00 %q, s07 %q", got, holds(w, "a", "s00"), holds(w, "a", "s07"))
	}
	w.wantState("a", history.HeldBack, *first.Commit)

	before = w.sessions("a")
	w.files["README"] = "nothing of a host"
	fourth := w.push("fourth", history.OutcomeFailed)
	if got := w.sessions("a") - before; got != 0 {
		t.Errorf("%d sessions for a push that changes nothing, want none", got)
	}
	if s := w.state("a").Services; *s[8].Commit != *fourth.Commit || *s[7].Commit != *first.Commit || *third.Commit == *fourth.Commit {
		t.Errorf("services after a push that changes none: %+v", s[7:9])
	}
	if _, err := w.d.Run(t.Context(), plan.Request{Cause: "poll", Trigger: plan.TriggerClock}); err != nil || w.sessions("a") != before {
		t.Errorf("a poll opens %d sessions, %v", w.sessions("a")-before, err)
	}

	mends(w, "s07")
	fifth := w.push("fifth", history.OutcomeDone)
	w.wantState("a", history.Current, *fifth.Commit)
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("s%02d current 05", i))
	}
	wantServices(w, "a", all...)
	if holds(w, "a", "s07") != "two\n" || len(recordOf(w, "a").Origins) > 0 {
		t.Errorf("s07 holds %q, origins %v", holds(w, "a", "s07"), recordOf(w, "a").Origins)
	}
}

// What failed is tried again when a person asks. Nothing is left to bring then.
func TestRetryOfAHeldService(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 2, "one\n")
	first := w.push("first", history.OutcomeDone)
	numbered(w, "a", 2, "two\n")
	breaks(w, "s01")
	w.push("second", history.OutcomePartial)

	before := w.sessions("a")
	w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeFailed)
	if got := w.sessions("a") - before; got != 1 {
		t.Errorf("%d sessions, want 1: nothing is left to bring", got)
	}
	w.wantState("a", history.HeldBack, *first.Commit)
	wantServices(w, "a", "s00 current 02", "s01 held-back 01")
	for _, says := range []string{"service s01 stays at " + plain.Short(*first.Commit) + ": ", plan.Again} {
		if got := deref(w.state("a").Error); !strings.Contains(got, says) {
			t.Errorf("the host's error is %q, want that it says %q", got, says)
		}
	}
	w.run(plan.Request{Cause: "deploy"}, history.OutcomeFailed)
	w.wantState("a", history.HeldBack, *first.Commit)
}

// When the failing service is all that a push changes, the host goes back, and that is all.
func TestNothingIsLeftToBring(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 2, "one\n")
	first := w.push("first", history.OutcomeDone)
	breaks(w, "s01")
	before := w.sessions("a")
	w.push("second", history.OutcomeFailed)
	if got := w.sessions("a") - before; got != 1 {
		t.Errorf("%d sessions, want 1", got)
	}
	w.wantState("a", history.RolledBack, *first.Commit)
	wantServices(w, "a", "s00 current 01", "s01 failed 01")

	w.files["services/s00/files/etc/s00.conf"] = "two\n"
	before = w.sessions("a")
	w.push("third", history.OutcomePartial)
	if got := w.sessions("a") - before; got != 1 || holds(w, "a", "s00") != "two\n" {
		t.Errorf("%d sessions, want 1 that leaves s01 alone; s00 holds %q", got, holds(w, "a", "s00"))
	}
	w.wantState("a", history.HeldBack, *first.Commit)
}

// A service that fails at its first install stays away, with all that it would bring.
func TestABadServiceThatNeverWasThere(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	breaks(w, "s02")
	w.push("first", history.OutcomePartial)
	w.wantState("a", history.HeldBack, "")
	wantServices(w, "a", "s00 current 01", "s01 current 01", "s02 held-back nowhere")
	if holds(w, "a", "s02") != "" || holds(w, "a", "s00") != "one\n" {
		t.Errorf("s02 holds %q, s00 %q", holds(w, "a", "s02"), holds(w, "a", "s00"))
	}
	if _, err := os.Lstat(w.machines["a"].Path("/etc/systemd/system/s02.service")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unit of s02: %v, want none", err)
	}
	mends(w, "s02")
	second := w.push("second", history.OutcomeDone)
	w.wantState("a", history.Current, *second.Commit)
}

// Services that share a key or a user move together.
func TestTiedServices(t *testing.T) {
	for name, yaml := range map[string]string{"key": "keys: [db]\n", "user": "user: app\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			w.files["secrets/db.age"] = "hunter2"
			set := func(text string) {
				numbered(w, "a", 3, text)
				w.files["services/s00/service.yaml"], w.files["services/s01/service.yaml"] = yaml, yaml
			}
			set("one\n")
			w.push("first", history.OutcomeDone)
			set("two\n")
			breaks(w, "s01")
			w.push("second", history.OutcomePartial)
			wantServices(w, "a", "s00 held-back 01", "s01 held-back 01", "s02 current 02")
			if holds(w, "a", "s00") != "one\n" || holds(w, "a", "s02") != "two\n" {
				t.Errorf("s00 holds %q, s02 %q", holds(w, "a", "s00"), holds(w, "a", "s02"))
			}
			if e := *w.state("a").Services[0].Error; !strings.HasPrefix(e, "it shares "+name+" ") || !strings.HasSuffix(e, " with s01") {
				t.Errorf("s00: %s", e)
			}
		})
	}
}

// Two services that fail one after the other cost two sessions more; with a third the host goes back
// as a whole.
func TestMoreBadServices(t *testing.T) {
	for _, tc := range []struct {
		bad      int
		sessions int
		outcome  history.Outcome
		state    history.State
		other    string
	}{{2, 3, history.OutcomePartial, history.HeldBack, "two\n"}, {3, 3, history.OutcomeFailed, history.RolledBack, "one\n"}} {
		t.Run(fmt.Sprint(tc.bad), func(t *testing.T) {
			w := newWorld(t, "a")
			numbered(w, "a", 5, "one\n")
			first := w.push("first", history.OutcomeDone)
			numbered(w, "a", 5, "two\n")
			for i := range tc.bad {
				oneAfterTheOther(w, i)
			}
			before := w.sessions("a")
			w.push("second", tc.outcome)
			if got := w.sessions("a") - before; got != tc.sessions {
				t.Errorf("%d sessions, want %d", got, tc.sessions)
			}
			w.wantState("a", tc.state, *first.Commit)
			if holds(w, "a", "s04") != tc.other {
				t.Errorf("s04 holds %q, want %q", holds(w, "a", "s04"), tc.other)
			}
			before = w.sessions("a")
			w.run(plan.Request{Cause: "deploy"}, history.OutcomeFailed)
			if got := w.sessions("a") - before; got != 0 {
				t.Errorf("%d sessions by a run that has nothing new, want none", got)
			}
		})
	}
}

// Of two services that fail in one try, each is told its own reason, in the sentence that one alone would
// have, and what was seen of both is kept.
func TestReasonsOfTwoBadServices(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 4, "one\n")
	w.push("first", history.OutcomeDone)
	numbered(w, "a", 4, "two\n")
	breaks(w, "s01")
	breaks(w, "s02")
	w.machines["a"].Say("s01.service", "one says why")
	w.machines["a"].Say("s02.service", "two says why")
	r := w.push("second", history.OutcomePartial)

	states := w.state("a").Services
	for _, s := range states[1:3] {
		want := "unit " + s.Name + ".service: it is failed (exit-code, status=1/FAILURE)"
		if s.State != services.Held || s.Error == nil || *s.Error != want {
			t.Errorf("service %s is %s: %v, want held back by %q", s.Name, s.State, s.Error, want)
		}
	}

	var seen []string
	for _, e := range r.Hosts[0].Evidence {
		seen = append(seen, *e.Service+": "+strings.Join(e.Lines, " "))
	}
	slices.Sort(seen)
	if want := []string{"s01: one says why", "s02: two says why"}; !slices.Equal(seen, want) {
		t.Errorf("evidence %q, want %q", seen, want)
	}
}

// oneAfterTheOther has the service of number i be the i-th to fail in the runs from now on: the first
// by its unit, the others by their probes once the one before is left out.
func oneAfterTheOther(w *world, i int) {
	if i == 0 {
		breaks(w, "s00")
		return
	}

	name := fmt.Sprintf("s%02d", i)
	w.files["services/"+name+"/service.yaml"] = "health: [{ command: check-" + name + ", interval: 100ms, grace: 100ms }]\n"
	before, notes := w.d.Progress, 0
	w.d.Progress = func(e follow.Event) {
		before(e)
		if e.Step != "note" || !strings.Contains(e.Text, "brought without") {
			return
		}
		if notes++; notes == i {
			w.machines["a"].Answer("command check-"+name, machine.Answer{Wrong: "it says no", Status: 1})
		}
	}
}

// isolate: false: a service that fails takes the host back.
func TestIsolateOff(t *testing.T) {
	w := newWorld(t, "a")
	w.top = "isolate: false\n"
	numbered(w, "a", 2, "one\n")
	first := w.push("first", history.OutcomeDone)
	numbered(w, "a", 2, "two\n")
	breaks(w, "s01")
	before := w.sessions("a")
	w.push("second", history.OutcomeFailed)
	if got := w.sessions("a") - before; got != 1 || holds(w, "a", "s00") != "one\n" {
		t.Errorf("%d sessions, s00 holds %q", got, holds(w, "a", "s00"))
	}
	w.wantState("a", history.RolledBack, *first.Commit)
}

// A service that the host can't have, before anything is touched, is left out: a command is missing
// there, or its package can't be had.
func TestAServiceThatTheHostCanNotHave(t *testing.T) {
	for name, tc := range map[string]struct {
		sessions int // of a push that changes the others: a command that lacks is remembered
		spoil    func(w *world)
	}{
		"a command": {1, func(w *world) {
			w.machines["a"].Lack("podman")
			w.files["services/s01/service.yaml"] = "needs: [podman]\n"
		}},
		"a package": {2, func(w *world) {
			gone := httptest.NewServer(http.NotFoundHandler())
			w.t.Cleanup(gone.Close)
			w.files["services/s01/service.yaml"] = "package: { url: " + gone.URL + "/x.tar.gz, sha256: " + strings.Repeat("a", 64) + " }\n"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			numbered(w, "a", 3, "one\n")
			first := w.push("first", history.OutcomeDone)
			tc.spoil(w)
			w.files["services/s01/files/etc/s01.conf"] = "two\n"
			w.push("only that", history.OutcomeRefused)
			w.wantState("a", history.Refused, *first.Commit)

			numbered(w, "a", 3, "two\n")
			before := w.sessions("a")
			w.push("second", history.OutcomePartial)
			if got := w.sessions("a") - before; got != tc.sessions {
				t.Errorf("%d sessions, want %d", got, tc.sessions)
			}
			w.wantState("a", history.HeldBack, *first.Commit)
			wantServices(w, "a", "s00 current 03", "s01 held-back 01", "s02 current 03")
			if holds(w, "a", "s00") != "two\n" || holds(w, "a", "s01") != "one\n" {
				t.Errorf("s00 holds %q, s01 %q", holds(w, "a", "s00"), holds(w, "a", "s01"))
			}
		})
	}
}

// A service whose package needs an architecture that nobody knows yet waits for the first contact, which
// brings the others, and comes with the run after it.
func TestAServiceThatWaitsForTheArchitecture(t *testing.T) {
	const body = "#!/bin/sh\necho hello\n"
	packages := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, body) }))
	t.Cleanup(packages.Close)
	w := newWorld(t, "a")
	numbered(w, "a", 2, "one\n")
	w.yaml["a"] = strings.Replace(w.yaml["a"], "    arch: amd64\n", "", 1)
	w.files["services/s01/service.yaml"] = "package: { url: '" + packages.URL + "/tool-{arch}', sha256: { " + runtime.GOARCH + ": " + bundle.DigestBytes([]byte(body)) + " } }\n"
	first := w.commit("first")
	serve(t, w)
	eventually(t, "both services are there", func() bool {
		h, _ := w.db.Host("a")
		return h.State == history.Current && h.Commit == first
	})
	if holds(w, "a", "s00") != "one\n" || holds(w, "a", "s01") != "one\n" {
		t.Errorf("s00 holds %q, s01 %q", holds(w, "a", "s00"), holds(w, "a", "s01"))
	}
	runs, err := w.db.Runs(t.Context(), 10, "a")
	w.must(err)
	last := runs.Runs[len(runs.Runs)-1]
	if *last.Hosts[0].Outcome != history.OutcomeHeldBack {
		t.Errorf("the first contact came to %s", *last.Hosts[0].Outcome)
	}
}

// Of two services that fail at once each says what was seen of itself.
func TestTwoServicesThatFailAtOnce(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 4, "one\n")
	w.push("first", history.OutcomeDone)
	numbered(w, "a", 4, "two\n")
	breaks(w, "s01")
	breaks(w, "s02")
	before := w.sessions("a")
	w.push("second", history.OutcomePartial)
	if got := w.sessions("a") - before; got != 2 {
		t.Errorf("%d sessions, want 2: both are left out at once", got)
	}
	for i, other := range map[int]string{1: "s02", 2: "s01"} {
		s := w.state("a").Services[i]
		if e := *s.Error; s.State != services.Held || !strings.Contains(e, "unit "+s.Name+".service: ") || strings.Contains(e, other) {
			t.Errorf("%s is %s: %s", s.Name, s.State, e)
		}
	}
}

// Another try that is refused for what is not the bundle's fault is not remembered: once that is put right
// the others are brought.
func TestAnotherTryThatIsRefusedForNothingOfItsOwn(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	first := w.push("first", history.OutcomeDone)
	network := recordOf(w, "a").Network
	numbered(w, "a", 3, "two\n")
	breaks(w, "s01")

	before := w.d.Progress
	w.d.Progress = func(e follow.Event) {
		before(e)
		if e.Step == "note" && strings.Contains(e.Text, "brought without") {
			recordNetwork(w, "a", "another")
		}
	}
	w.push("second", history.OutcomeRefused)
	w.wantState("a", history.Refused, *first.Commit)

	w.d.Progress = before
	recordNetwork(w, "a", network)
	w.run(plan.Request{Cause: "poll"}, history.OutcomePartial)
	w.wantState("a", history.HeldBack, *first.Commit)
	if got := holds(w, "a", "s00"); got != "two\n" {
		t.Errorf("s00 holds %q", got)
	}
}

// recordNetwork has the record of a host name a network.
func recordNetwork(w *world, host, network string) {
	w.t.Helper()
	path := w.machines[host].Path(bundle.RecordPath)
	p, err := os.ReadFile(path)
	w.must(err)
	rec := map[string]any{}
	w.must(json.Unmarshal(p, &rec))
	rec["network"] = network
	p, err = json.Marshal(rec)
	w.must(err, os.WriteFile(path, p, 0o600))
}
