package containers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// programs answers calls by what a test says of them, and remembers them.
type programs struct {
	mu     sync.Mutex
	calls  []string
	answer func(ctx context.Context, p machine.Program) (machine.Output, error)
}

func (p *programs) Run(ctx context.Context, prog machine.Program) (machine.Output, error) {
	p.mu.Lock()
	p.calls = append(p.calls, strings.Join(prog.Argv, " "))
	p.mu.Unlock()
	return p.answer(ctx, prog)
}

func (p *programs) with(part string) (n int) {
	for _, c := range p.calls {
		if strings.Contains(c, part) {
			n++
		}
	}
	return n
}

// absent is the answer for an image that the host does not have; pull answers pulls.
func absent(pull func(ctx context.Context, ref string) (machine.Output, error)) func(context.Context, machine.Program) (machine.Output, error) {
	return func(ctx context.Context, p machine.Program) (machine.Output, error) {
		if p.Argv[1] == "image" {
			return machine.Output{Exit: 1, Stderr: "Error: No such image: " + p.Argv[len(p.Argv)-1]}, nil
		}
		return pull(ctx, p.Argv[len(p.Argv)-1])
	}
}

// What engines wrote when registries failed, tried on Docker 26 and Podman 5.4.
func TestCauseOfAFailedPull(t *testing.T) {
	for stderr, want := range map[string]containers.Cause{
		"Error response from daemon: manifest for r:5000/app:nope not found: manifest unknown: manifest unknown":                                  containers.NotFound,
		"Error response from daemon: pull access denied for x, repository does not exist or may require 'docker login': denied: requested access": containers.NotFound,
		"Error response from daemon: unauthorized: authentication required":                                                                       containers.NoRight,
		`Error response from daemon: Head "http://r:5000/v2/app/manifests/1": no basic auth credentials`:                                          containers.NoRight,
		"Error response from daemon: denied":                                                                                                                      containers.NoRight,
		"Error response from daemon: toomanyrequests: You have reached your pull rate limit":                                                                      containers.Quota,
		"Error response from daemon: received unexpected HTTP status: 500 Internal Server Error":                                                                  containers.ServerError,
		`Error response from daemon: Get "http://10.0.0.1:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused`:                                         containers.Unreachable,
		`Error response from daemon: Get "https://x/v2/": dial tcp: lookup x: no such host`:                                                                       containers.Unreachable,
		"failed to register layer: write /app: no space left on device":                                                                                           containers.DiskFull,
		"Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?":                                                       containers.NoEngine,
		"Error: initializing source docker://r:5000/app:nope: reading manifest nope in r:5000/app: manifest unknown":                                              containers.NotFound,
		"Error: initializing source docker://r:5000/app:1: reading manifest 1 in r:5000/app: unauthorized":                                                        containers.NoRight,
		`Error: initializing source docker://r:5000/app:1: pinging container registry r:5000: Get "http://r:5000/v2/": dial tcp 1.2.3.4:5000: connection refused`: containers.Unreachable,
		`Error response from daemon: unknown: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}`:                                                            containers.NotFound,
		"something new": containers.Other,
	} {
		p := &programs{answer: absent(func(context.Context, string) (machine.Output, error) {
			return machine.Output{Exit: 1, Stderr: stderr}, nil
		})}
		err := (&containers.Puller{Programs: p}).Pull(t.Context(), []containers.Image{{Engine: containers.Docker, Ref: "app:1", Service: "s"}})["s"]
		var image *containers.ImageError
		if !errors.As(err, &image) || image.Cause != want {
			t.Errorf("%s\nis %v, want %s", stderr, err, want)
		}
	}
}

// One bad image keeps none of the others from coming, and is told of the services that want it.
func TestPullSeveral(t *testing.T) {
	p := &programs{answer: absent(func(_ context.Context, ref string) (machine.Output, error) {
		if ref == "bad:1" {
			return machine.Output{Exit: 1, Stderr: "Error response from daemon: manifest for bad:1 not found: manifest unknown"}, nil
		}
		return machine.Output{}, nil
	})}
	var images []containers.Image
	for i := range 9 {
		images = append(images, containers.Image{Engine: containers.Docker, Ref: fmt.Sprintf("good:%d", i), Service: "good"})
	}
	for _, s := range []string{"a", "b", "a"} { // a has two containers of it
		images = append(images, containers.Image{Engine: containers.Docker, Ref: "bad:1", Service: s}, containers.Image{Engine: containers.Docker, Ref: "good:0", Service: s})
	}
	var events []string
	failed := (&containers.Puller{Programs: p, Event: func(step, text string) { events = append(events, step) }}).Pull(t.Context(), images)

	if failed["a"] == nil || failed["b"] == nil || failed["good"] != nil || containers.Passes(failed["a"]) || strings.Count(failed["a"].Error(), "bad:1: ") != 1 {
		t.Errorf("Pull: %v", failed)
	}
	if p.with("pull -q bad:1") != 1 || p.with("pull -q good:0") != 1 || p.with("pull -q") != 10 {
		t.Errorf("each image is to be pulled once: %q", p.calls)
	}
	slices.Sort(events)
	if got := strings.Join(slices.Compact(events), " "); got != "pull pulled" || len(events) != 10+9 {
		t.Errorf("events %q", events)
	}
}

func TestPullPolicies(t *testing.T) {
	has := &programs{answer: func(context.Context, machine.Program) (machine.Output, error) { return machine.Output{}, nil }}
	(&containers.Puller{Programs: has}).Pull(t.Context(), []containers.Image{{Engine: containers.Docker, Ref: "a"}, {Engine: containers.Docker, Ref: "b", Policy: containers.PullNever}})
	if has.with("pull -q") != 0 {
		t.Errorf("what is there was asked for: %q", has.calls)
	}
	(&containers.Puller{Programs: has}).Pull(t.Context(), []containers.Image{{Engine: containers.Podman, Ref: "c", Policy: containers.PullAlways}})
	if has.with("podman pull -q c") != 1 {
		t.Errorf("what is to be asked for always was not: %q", has.calls)
	}

	lacks := &programs{answer: absent(nil)}
	if err := (&containers.Puller{Programs: lacks}).Pull(t.Context(), []containers.Image{{Engine: containers.Docker, Ref: "b", Policy: containers.PullNever, Service: "s"}})["s"]; err == nil {
		t.Error("an image that may not be pulled and is not there is no error")
	}
}

// podman waits for a registry that has no quota left, for as long as it says, and tells nobody: only a limit of our own
// ends that, and then podman's debug log has the reason. Docker says it by itself.
func TestSlowRegistry(t *testing.T) {
	const waits = `time="2026-11-30T19:53:49Z" level=debug msg="Too many requests to http://r/v2/a/manifests/1: sleeping for 60.000000 seconds before next attempt"`
	for _, c := range []struct {
		engine, log string
		want        containers.Cause
		asked       int
	}{
		{containers.Podman, waits, containers.Quota, 2},
		{containers.Podman, "level=debug msg=\"GET http://r/v2/\"", containers.TooSlow, 2},
		{containers.Docker, waits, containers.TooSlow, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &programs{}
			p.answer = func(ctx context.Context, prog machine.Program) (machine.Output, error) {
				if prog.Argv[1] == "image" {
					return machine.Output{Exit: 1, Stderr: "Error: No such image"}, nil
				}
				<-ctx.Done()
				out := machine.Output{Exit: -1}
				if prog.Argv[1] == "--log-level=debug" {
					out.Stderr = c.log + "\n"
				}
				return out, fmt.Errorf("run %s: %w", prog.Argv[0], ctx.Err())
			}
			err := (&containers.Puller{Programs: p}).Pull(t.Context(), []containers.Image{{Engine: c.engine, Ref: "a", Service: "s", Options: []string{"--tls-verify=false"}}})["s"]
			var image *containers.ImageError
			if !errors.As(err, &image) || image.Cause != c.want || !image.Passes() || p.with("pull -q --tls-verify=false a") != c.asked {
				t.Errorf("%s that logs %q: %v, after %q; want %s", c.engine, c.log, err, p.calls, c.want)
			}
		})
	}
}
