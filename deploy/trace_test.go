package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/trace"
)

// A tracedSpan is a span of a trace.
type tracedSpan struct {
	track, name, text string
	from, to          float64 // µs; to is 0 while it is open
}

// readTrace reads the spans of a trace, by the order of their beginnings.
func readTrace(t *testing.T, path string) (spans []*tracedSpan) {
	t.Helper()
	var events []struct {
		Name, Ph string
		Ts       float64
		Pid, Tid int
		Args     map[string]string
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(p, &events); err != nil {
		t.Fatalf("trace: %v\n%s", err, p)
	}

	names := map[int]string{}
	open := map[int][]*tracedSpan{}
	for _, e := range events {
		switch {
		case e.Name == "thread_name" && e.Pid == 2:
			names[e.Tid] = "by " + e.Args["name"]
		case e.Name == "thread_name":
			names[e.Tid] = e.Args["name"]
		case e.Ph == "B":
			s := &tracedSpan{track: names[e.Tid], name: e.Name, text: e.Args["text"], from: e.Ts}
			spans, open[e.Tid] = append(spans, s), append(open[e.Tid], s)
		case e.Ph == "E":
			last := len(open[e.Tid]) - 1
			open[e.Tid][last].to = e.Ts
			open[e.Tid] = open[e.Tid][:last]
		}
	}
	for _, left := range open {
		for _, s := range left {
			t.Errorf("%s of %s does not end", s.name, s.track)
		}
	}
	return spans
}

// A trace has the steps of the run, of the push to each host, and of each host by its own account, each
// within the one that it is a part of. A plan that is only shown is not in it.
func TestTrace(t *testing.T) {
	w := newWorld(t, "a", "b")
	path := filepath.Join(t.TempDir(), "trace.json")
	var err error
	w.d.Trace, err = trace.Create(path)
	w.must(err)
	w.push("first", history.OutcomeDone)
	w.files["services/web/files/etc/web.conf"] = "two\n"
	w.commit("second")
	_, err = w.d.Plan(t.Context(), plan.Request{})
	w.must(err)
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	w.must(w.d.Trace.Close())

	spans := readTrace(t, path)
	of := func(track string) (names []string) {
		for _, s := range spans {
			if s.track == track {
				names = append(names, s.name)
			}
		}
		return names
	}
	run := []string{"run", "sync", "load", "bundle", "plan", "store", "push"}
	if got := of("run"); !slices.Equal(got, append(run, run...)) {
		t.Errorf("spans of two runs: %v", got)
	}
	for _, host := range []string{"a", "b"} {
		want := []string{"push", "connect", "offer", "blobs", "wait", "store"}
		optimistic := []string{"push", "connect", "offer", "wait", "store"}
		if got := of(host); !slices.Equal(got, append(want, optimistic...)) {
			t.Errorf("spans of %s: %v", host, got)
		}
		for _, step := range []string{"begin", "files", "start", "done"} {
			if !slices.Contains(of("by "+host), step) {
				t.Errorf("steps of %s: %v, want %s among them", host, of("by "+host), step)
			}
		}
	}

	within := func(s *tracedSpan, track, name string) bool {
		return slices.ContainsFunc(spans, func(o *tracedSpan) bool {
			return o.track == track && o.name == name && o.from <= s.from && s.to <= o.to
		})
	}
	for _, s := range spans {
		host, isHost := strings.CutPrefix(s.track, "by ")
		switch {
		case isHost && !within(s, host, "push"):
			t.Errorf("step %s of %s is not within the push to it: %+v", s.name, host, s)
		case !isHost && s.track != "run" && !within(s, "run", "push"):
			t.Errorf("%s of %s is not within the pushes of a run: %+v", s.name, s.track, s)
		case s.track == "run" && !within(s, "run", "run"):
			t.Errorf("%s is not within its run: %+v", s.name, s)
		}
	}
	if i := slices.IndexFunc(spans, func(s *tracedSpan) bool { return s.name == "load" }); spans[i].text != "000000000000 first" {
		t.Errorf("load says %q", spans[i].text)
	}
}
