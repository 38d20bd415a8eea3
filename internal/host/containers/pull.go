package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bellhop/internal/host/machine"
)

// The engines, as their programs are called.
const (
	Docker = "docker"
	Podman = "podman"
)

// When an image is asked for.
const (
	PullMissing = "missing" // where the host has none of that reference
	PullAlways  = "always"
	PullNever   = "never" // it must be there
)

// PullTime is how long one image may take to come.
const PullTime = 15 * time.Minute

// pulls is how many images come at a time.
const pulls = 4

// An Image is one that must be on the host before anything is stopped.
type Image struct {
	Engine  string // Docker or Podman
	Ref     string
	Policy  string   // PullMissing, PullAlways or PullNever; "" is PullMissing
	Options []string // of the engine's pull
	Service string   // of the bundle, that wants it
}

// key is the same for images that one pull brings.
func (i Image) key() string {
	return strings.Join(append([]string{i.Engine, i.Ref, i.Policy}, i.Options...), "\x00")
}

// A Puller brings images.
type Puller struct {
	Programs machine.Programs
	Env      []string                // of each pull, beside the usual
	Limit    time.Duration           // of one image; 0 is PullTime
	Event    func(step, text string) // hears of each image; never called by two goroutines at once
	events   sync.Mutex
}

// Pull brings the images that the host lacks, several at a time. An image that several services want is
// asked for once. It returns an error for each service and image that did not come, by the service, and
// ends when all have come or failed: one that fails does not keep the others.
func (p *Puller) Pull(ctx context.Context, images []Image) map[string]error {
	services := map[string][]string{}
	var once []Image
	for _, i := range images {
		key := i.key()
		if services[key] == nil {
			once = append(once, i)
		}
		if !slices.Contains(services[key], i.Service) {
			services[key] = append(services[key], i.Service)
		}
	}

	var mu sync.Mutex
	var wg sync.WaitGroup
	failed := map[string]error{}
	slots := make(chan struct{}, pulls)
	for _, i := range once {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := p.one(ctx, i)
			if err == nil {
				return
			}

			mu.Lock()
			defer mu.Unlock()
			for _, s := range services[i.key()] {
				failed[s] = errors.Join(failed[s], err)
			}
		})
	}

	wg.Wait()
	return failed
}

func (p *Puller) one(ctx context.Context, i Image) error {
	if i.Policy != PullAlways {
		has, err := p.has(ctx, i)
		if has || err != nil {
			return err
		}
	}
	if i.Policy == PullNever || i.Policy == "build" {
		return &ImageError{Image: i.Ref, Cause: NotFound, Text: "it is not on the host, and its pull policy is never"}
	}

	limit := p.Limit
	if limit == 0 {
		limit = PullTime
	}

	p.tell("pull", i.Ref)
	began := time.Now()
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	argv := append([]string{i.Engine, "pull", "-q"}, i.Options...)
	out, err := p.Programs.Run(ctx, machine.Program{Argv: append(argv, i.Ref), Env: p.Env})
	if err != nil || out.Exit != 0 {
		return p.failed(whole, i, failure(i.Ref, out.Stderr, err))
	}

	p.tell("pulled", fmt.Sprintf("%s in %v", i.Ref, time.Since(began).Round(100*time.Millisecond)))
	return nil
}

// quotaTime is how long podman may take to say that it waits for a registry's quota.
const quotaTime = 30 * time.Second

// failed is why an image did not come. Podman waits as long as a registry asks for that answers 429, and says so only
// to whoever debugs it, so after its deadline it is asked once more.
func (p *Puller) failed(ctx context.Context, i Image, e *ImageError) error {
	if i.Engine != Podman || e.Cause != TooSlow || ctx.Err() != nil {
		return e
	}

	ctx, cancel := context.WithTimeout(ctx, quotaTime)
	defer cancel()
	argv := append([]string{Podman, "--log-level=debug", "pull", "-q"}, i.Options...)
	out, err := p.Programs.Run(ctx, machine.Program{Argv: append(argv, i.Ref), Env: p.Env})
	if err == nil && out.Exit == 0 {
		return nil // the rest of it came
	}
	if strings.Contains(strings.ToLower(out.Stderr), "too many requests") {
		e.Cause = Quota
	}

	return e
}

// has says whether the host has an image by that reference.
func (p *Puller) has(ctx context.Context, i Image) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := p.Programs.Run(ctx, machine.Program{Argv: []string{i.Engine, "image", "inspect", "-f", "{{.Id}}", i.Ref}})
	if err != nil {
		return false, failure(i.Ref, "", err)
	}
	if out.Exit == 0 {
		return true, nil
	}
	if e := failure(i.Ref, out.Stderr, nil); e.Cause == NoEngine {
		return false, e
	}
	return false, nil
}

func (p *Puller) tell(step, text string) {
	p.events.Lock()
	defer p.events.Unlock()
	if p.Event != nil {
		p.Event(step, text)
	}
}

// askTime is how long an engine may take for what it has at hand.
const askTime = 30 * time.Second
