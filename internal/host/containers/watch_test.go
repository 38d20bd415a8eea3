package containers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// life answers docker with what a container is at each moment, seconds after the start.
func life(began time.Time, at func(after time.Duration) containers.State) *programs {
	return &programs{answer: func(_ context.Context, p machine.Program) (machine.Output, error) {
		if p.Argv[1] == "ps" {
			return machine.Output{Stdout: "id\n"}, nil
		}
		s := at(time.Since(began))
		s.ID, s.Service = "id", "app"
		text, err := json.Marshal(s)
		return machine.Output{Stdout: string(text) + "\n"}, err
	}}
}

func TestWatch(t *testing.T) {
	running := containers.State{Status: "running", Policy: "always"}
	with := func(edit func(s *containers.State)) containers.State {
		s := running
		edit(&s)
		return s
	}

	for _, c := range []struct {
		name  string
		once  bool
		state func(after time.Duration) containers.State
		wrong string        // "": it is healthy
		took  time.Duration // at least
	}{
		{"stays up", false, func(time.Duration) containers.State { return running }, "", 5 * time.Second},
		{"restarts again and again", false, func(a time.Duration) containers.State {
			return with(func(s *containers.State) {
				if a > 2*time.Second {
					s.Restarts, s.Exit = 2, 3
				}
			})
		}, "restarted by its restart policy, 2 times, with status 3", 2 * time.Second},
		{"gets healthy", false, func(a time.Duration) containers.State {
			return with(func(s *containers.State) {
				s.Health = "starting"
				if a > 20*time.Second {
					s.Health = "healthy"
				}
			})
		}, "", 20 * time.Second},
		{"gets unhealthy", false, func(a time.Duration) containers.State {
			return with(func(s *containers.State) {
				s.Health, s.Said = "starting", "no answer\x1b[2J"
				if a > 9*time.Second {
					s.Health = "unhealthy"
				}
			})
		}, "is unhealthy: its healthcheck says: no answer", 9 * time.Second},
		{"never gets healthy", false, func(time.Duration) containers.State {
			return with(func(s *containers.State) { s.Health = "starting" })
		}, "is not healthy after 1m0s", time.Minute},
		{"a job that ends well", true, func(time.Duration) containers.State {
			return with(func(s *containers.State) { s.Status, s.Policy = "exited", "no" })
		}, "", 0},
		{"a job that fails", true, func(time.Duration) containers.State {
			return with(func(s *containers.State) { s.Status, s.Policy, s.Exit = "exited", "no", 7 })
		}, "ended with status 7", 0},
		{"an end that nobody asked for", false, func(time.Duration) containers.State {
			return with(func(s *containers.State) { s.Status, s.Policy = "exited", "no" })
		}, "ended with status 0", 0},
		{"could not be started", false, func(time.Duration) containers.State {
			return with(func(s *containers.State) {
				s.Status, s.Exit, s.Error = "exited", 127, "bind source path does not exist"
			})
		}, "could not be started: bind source", 0},
		{"no memory", false, func(time.Duration) containers.State {
			return with(func(s *containers.State) { s.OOM, s.Restarts = true, 1 })
		}, "no memory left", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				p := life(began, func(after time.Duration) containers.State {
					s := c.state(after)
					s.Started = began
					return s
				})
				project := bundle.ComposeProject{Project: "p", Containers: []bundle.Container{{Name: "app", Once: c.once}, {Name: "off", Idle: true}}}
				w := containers.Watched{Stack: containers.Stack{Service: "wiki", ComposeProject: project}, Settle: 5 * time.Second}
				failures, err := (containers.Engine{Programs: p}).Watch(t.Context(), []containers.Watched{w}, time.Minute)
				if err != nil {
					t.Fatal(err)
				}

				got := ""
				if len(failures) > 0 {
					got = failures[0].Err.Error()
				}
				if (got == "") != (c.wrong == "") || !strings.Contains(got, c.wrong) || strings.Contains(got, "\x1b") || time.Since(began) < c.took {
					t.Errorf("after %v: %q, want %q after %v", time.Since(began), got, c.wrong, c.took)
				}
				if got != "" && !strings.HasPrefix(got, "container wiki:app ") {
					t.Errorf("which container? %q", got)
				}
			})
		})
	}
}

func TestWatchOfOneThatIsNotThere(t *testing.T) {
	p := &programs{answer: func(context.Context, machine.Program) (machine.Output, error) { return machine.Output{}, nil }}
	project := bundle.ComposeProject{Project: "p", Containers: []bundle.Container{{Name: "app"}}}
	failures, err := (containers.Engine{Programs: p}).Watch(t.Context(), []containers.Watched{{Stack: containers.Stack{Service: "s", ComposeProject: project}}}, time.Minute)
	if err != nil || len(failures) != 1 || fmt.Sprint(failures[0].Err) != "container s:app was not created" {
		t.Errorf("Watch = %v, %v", failures, err)
	}
}

// At the time limit the failure is of the container that is waited for, whatever stack comes first.
func TestWatchBlamesTheOneThatIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := &programs{answer: func(_ context.Context, p machine.Program) (machine.Output, error) {
			of := p.Argv[len(p.Argv)-1]
			if p.Argv[1] == "ps" {
				return machine.Output{Stdout: of[strings.LastIndex(of, "=")+1:] + "-id\n"}, nil
			}
			s := containers.State{ID: of, Service: "app", Status: "running", Started: began}
			if of == "slow-id" {
				s.Health = "starting"
			}
			text, err := json.Marshal(s)
			return machine.Output{Stdout: string(text) + "\n"}, err
		}}
		stack := func(name string) containers.Watched {
			project := bundle.ComposeProject{Project: name, Containers: []bundle.Container{{Name: "app"}}}
			return containers.Watched{Stack: containers.Stack{Service: name, ComposeProject: project}}
		}

		failures, err := (containers.Engine{Programs: p}).Watch(t.Context(), []containers.Watched{stack("good"), stack("slow"), stack("well")}, time.Minute)
		if err != nil || len(failures) != 1 {
			t.Fatalf("Watch = %v, %v; want one failure", failures, err)
		}
		f := failures[0]
		if f.Service != "slow" || f.Name != "slow:app" || f.State.ID != "slow-id" || f.State.Health != "starting" {
			t.Errorf("the failure is %+v, want the container of slow, as it was seen", f)
		}
	})
}

// What failed in a project is told though compose says only that it waited for it: not what ended well, nor what had ended before.
func TestFailedSince(t *testing.T) {
	since := time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC)
	later, before := since.Add(time.Second), since.Add(-time.Hour)
	for want, s := range map[string]containers.State{
		"":                    {Status: "running", Started: later},
		"<nil> starting":      {Status: "running", Health: "starting"},
		"<nil> created":       {Status: "created"},
		"<nil> once":          {Status: "exited", Finished: later},
		"<nil> earlier":       {Status: "exited", Exit: 3, Finished: before},
		"ended with status 3": {Status: "exited", Exit: 3, Finished: later},
		"is unhealthy: its healthcheck says: no answer":                        {Status: "running", Health: "unhealthy", Said: "no answer\n", Finished: before},
		"could not be started: port is already allocated":                      {Status: "created", Error: "port is already allocated"},
		"was killed: the host, or its memory limit, had no memory left for it": {Status: "exited", Exit: 137, OOM: true, Finished: later},
		"ended with status 1": {Status: "dead", Exit: 1, Finished: later},
	} {
		isGood := want == "" || strings.HasPrefix(want, "<nil>")
		err := s.FailedSince(since)
		if isGood && err != nil || !isGood && (err == nil || err.Error() != want) {
			t.Errorf("%+v: %v, want %s", s, err, want)
		}
	}
}
