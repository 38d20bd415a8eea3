package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// sessionsOf counts the sessions of hosts that f opens.
func sessionsOf(w *world, f func(), hosts ...string) (opened []int) {
	w.t.Helper()
	for _, h := range hosts {
		opened = append(opened, -w.sessions(h))
	}
	f()
	for i, h := range hosts {
		opened[i] += w.sessions(h)
	}
	return opened
}

func wantError(w *world, host, want string) {
	w.t.Helper()
	if e := w.state(host).Error; e == nil || *e != want {
		w.t.Errorf("error of %s: %q, want %q", host, text(e), want)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// One host goes first. When its bundle fails there, the others are not touched: neither in that run nor
// by later pushes, polls and starts of the same commit, also after a restart of bellhop. The next commit
// goes to them again, and so does a person with --retry.
func TestARunStopsAfterItsFirstWave(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	first := w.push("first", history.OutcomeDone)
	breaks(w, "web")
	var second *history.Run
	opened := sessionsOf(w, func() { second = w.push("second", history.OutcomeFailed) }, "a", "b", "c")
	if !slices.Equal(opened, []int{1, 0, 0}) {
		t.Errorf("sessions %v, want one, on a", opened)
	}
	w.wantState("a", history.RolledBack, *first.Commit)
	for _, host := range []string{"b", "c"} {
		w.wantState(host, history.Behind, *first.Commit)
		wantError(w, host, "stopped: web failed on a (max_failures 0)")
	}
	if o := second.Hosts[1].Outcome; o == nil || *o != "behind" {
		t.Errorf("outcomes: %s", w.tell(second))
	}

	w.d = w.deployer("SHA256:one") // bellhop starts again
	for _, req := range []plan.Request{{Cause: "start"}, {Cause: "poll", Trigger: plan.TriggerClock}, {Cause: "push"}, {Cause: "deploy", On: "b"}} {
		opened := sessionsOf(w, func() {
			if _, err := w.d.Run(t.Context(), req); err != nil {
				t.Error(err)
			}
		}, "a", "b", "c")
		if !slices.Equal(opened, []int{0, 0, 0}) {
			t.Errorf("%s opened the sessions %v, want none", req.Cause, opened)
		}
		wantError(w, "b", "stopped: web failed on a (max_failures 0)")
	}

	opened = sessionsOf(w, func() { w.run(plan.Request{Cause: "deploy", On: "c", Retry: true}, history.OutcomeFailed) }, "a", "b", "c")
	if !slices.Equal(opened, []int{0, 0, 1}) {
		t.Errorf("with --retry on c the sessions are %v, want one there", opened)
	}
	w.wantState("c", history.RolledBack, *first.Commit)

	mends(w, "web")
	w.files["services/web/files/etc/web.conf"] = "mended\n"
	third := w.push("third", history.OutcomeDone)
	for _, host := range []string{"a", "b", "c"} {
		w.wantState(host, history.Current, *third.Commit)
	}
}

// More hosts than max_failures must fail before a run stops, and hosts that are away do not count.
func TestMaxFailures(t *testing.T) {
	for _, c := range []struct {
		max  string
		away bool
		want []int // sessions
	}{
		{"0", false, []int{1, 0, 0, 0}},
		{"1", false, []int{1, 1, 0, 0}},
		{"3", false, []int{1, 1, 1, 1}},
		{"1", true, []int{0, 1, 1, 0}},
	} {
		w := newWorld(t, "a", "b", "c", "d")
		w.top = "isolate: false\nrollout: { waves: ['1', '1', '1', '1'], max_failures: " + c.max + " }\n"
		w.push("first", history.OutcomeDone)
		breaks(w, "web")
		if c.away {
			w.hosts["a"].Close()
		}
		opened := sessionsOf(w, func() { w.push("second", history.OutcomeFailed) }, "a", "b", "c", "d")
		if c.away {
			opened[0] = 0 // what it takes to find that out is not the question
		}
		if !slices.Equal(opened, c.want) {
			t.Errorf("max_failures %s, a away: %v: sessions %v, want %v", c.max, c.away, opened, c.want)
		}
		if c.away {
			wantError(w, "d", "stopped: web failed on b, web failed on c (max_failures 1)")
		}
	}
}

// A service that fails on a host of the first wave is not started on the others, which come to the
// commit with all else. Nor is it started there later, until it changes.
func TestAServiceThatFailedInAnEarlierWave(t *testing.T) {
	w := newWorld(t)
	hosts := []string{"a", "b", "c"}
	for _, h := range hosts {
		w.host(h)
		numbered(w, h, 3, "one\n")
	}
	w.host("d") // has the bad service alone
	w.enable("d", "s01")
	first := w.push("first", history.OutcomeDone)

	numbered(w, "a", 3, "two\n")
	breaks(w, "s01")
	starts := map[string]int{}
	for _, h := range append(hosts, "d") {
		starts[h] = w.machines[h].Starts("s01.service")
	}
	opened := sessionsOf(w, func() { w.push("second", history.OutcomePartial) }, "a", "b", "c", "d")
	if !slices.Equal(opened, []int{2, 1, 1, 0}) {
		t.Errorf("sessions %v, want two on a, one on b and c, and none on d", opened)
	}
	for _, h := range append(hosts, "d") {
		w.wantState(h, history.HeldBack, *first.Commit)
		if got := w.machines[h].Starts("s01.service") - starts[h]; got != 0 && h != "a" {
			t.Errorf("s01 was started %d times on %s, want never", got, h)
		}
		if h != "a" && !strings.Contains(text(w.state(h).Error), "it failed on a: ") {
			t.Errorf("error of %s: %s", h, text(w.state(h).Error))
		}
	}
	wantServices(w, "b", "s00 current 02", "s01 held-back 01", "s02 current 02")
	wantServices(w, "d", "s01 held-back 01")
	if holds(w, "b", "s00") != "two\n" || holds(w, "b", "s01") != "one\n" || !w.machines["b"].Active("s01.service") {
		t.Errorf("b holds s00 %q, s01 %q", holds(w, "b", "s00"), holds(w, "b", "s01"))
	}

	w.d = w.deployer("SHA256:one")
	for _, req := range []plan.Request{{Cause: "start"}, {Cause: "poll", Trigger: plan.TriggerClock}} {
		opened = sessionsOf(w, func() {
			if _, err := w.d.Run(t.Context(), req); err != nil {
				t.Error(err)
			}
		}, "a", "b", "c", "d")
		if !slices.Equal(opened, []int{0, 0, 0, 0}) {
			t.Errorf("%s opened the sessions %v, want none", req.Cause, opened)
		}
		w.wantState("d", history.HeldBack, *first.Commit)
	}
	mends(w, "s01")
	w.push("third", history.OutcomeDone)
	for _, h := range append(hosts, "d") {
		w.wantState(h, history.Current, w.commits[2].Commit)
	}
}

// The order of waves is that of rollout: and after:, with hosts last that are not expected to be there.
func TestOrderOfWaves(t *testing.T) {
	w := newWorld(t, "a", "b", "c", "d")
	w.yaml["a"] += "    expected: sometimes\n"
	w.yaml["b"] += "    after: [d]\n"
	w.yaml["c"] += "    tags: [canary]\n"
	w.top = "rollout: { waves: ['@canary', '1'] }\n"
	w.commit("first")
	p, err := w.d.Plan(t.Context(), plan.Request{})
	w.must(err)
	var got []string
	for _, wave := range p.Waves() {
		got = append(got, strings.Join(wave, " "))
	}
	if want := []string{"c", "d", "b a"}; !slices.Equal(got, want) {
		t.Errorf("waves %q, want %q", got, want)
	}
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	var order []string
	for _, e := range w.events {
		if e.Step == "end" && e.Host != "" {
			order = append(order, e.Host)
		}
	}
	if !slices.Equal(order[:2], []string{"c", "d"}) || len(order) != 4 {
		t.Errorf("hosts ended in the order %q", order)
	}
}

// A host that could not be undone whole comes after the others, and one that did not answer last: the first
// wave is to show whether a bundle works.
func TestHostsInNoGoodStateComeLater(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.push("first", history.OutcomeDone)
	w.must(w.db.Correct(t.Context(), "b", func(h *history.Host) { h.State, h.Digest = history.Failed, "" }))
	w.must(w.db.Correct(t.Context(), "a", func(h *history.Host) { h.State = history.Pending }))
	w.files["services/web/files/etc/web.conf"] = "two\n"
	w.commit("second")

	p, err := w.d.Plan(t.Context(), plan.Request{})
	w.must(err)
	var got []string
	for _, wave := range p.Waves() {
		got = append(got, strings.Join(wave, " "))
	}
	if want := []string{"c", "b a"}; !slices.Equal(got, want) {
		t.Errorf("waves %q, want %q", got, want)
	}
}

// That a host which is there at times is away is no failure, and no message tells of it.
func TestAHostThatIsThereAtTimes(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.yaml["b"] += "    expected: sometimes\n"
	first := w.push("first", history.OutcomeDone)
	messages, err := w.db.Outbox(t.Context(), 100)
	w.must(err)
	w.must(w.db.Outgoing().Ack(t.Context(), messages[len(messages)-1].Seq))

	w.hosts["b"].Close()
	w.files["services/web/files/etc/web.conf"] = "two\n"
	second := w.push("second", history.OutcomeDone)
	w.wantState("a", history.Current, *second.Commit)
	w.wantState("b", history.Pending, *first.Commit)
	s, err := w.db.Status(t.Context())
	w.must(err)
	if bad := s.Failing(); len(bad) != 0 || s.Hosts[1].Expected != "sometimes" {
		t.Errorf("failing: %+v; b is expected %q", bad, s.Hosts[1].Expected)
	}
	messages, err = w.db.Outbox(t.Context(), 100)
	w.must(err)
	for _, m := range messages {
		if m.Host == "b" {
			t.Errorf("a message tells of b: %+v", m)
		}
	}
}
