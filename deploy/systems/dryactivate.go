package systems

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/nixos"
)

// ErrHeadAlone says that a host is not asked about something that is not to be deployed: to ask, the system is copied to
// it, and a program of the system runs there.
var ErrHeadAlone = errors.New("--dry-activate copies the system to the host and runs its switch-to-configuration there, so it is for the branch's head alone")

// errBusy says that a host can't be asked, since a run is at work on it or wants to be.
var errBusy = errors.New("a run is at work there: try again when it has ended")

// maxSaid is how much of what a host says is taken, bytes.
const maxSaid = 64 << 10

// DryActivate has the system that p brings to a host copied there, or built, asks what going over to it would do, and puts
// the answer into p. A host to which no new system comes is not asked.
func (s Systems) DryActivate(ctx context.Context, p *plan.Plan, host string) error {
	h, ok := p.Fleet.Host(host)
	switch {
	case !ok:
		return fmt.Errorf("--dry-activate: the repo has no host %s", host)
	case h.NixOS == nil:
		return fmt.Errorf("--dry-activate: %s is no NixOS host", host)
	case s.Nix == nil:
		return errors.New("--dry-activate: this deployer brings no NixOS systems")
	}

	i := slices.IndexFunc(p.Hosts, func(hp *plan.HostPlan) bool { return hp.Name == host })
	if i < 0 || p.Hosts[i].System == nil || p.Hosts[i].System.From == p.Hosts[i].System.To {
		return nil
	}

	hp := p.Hosts[i]
	said, err := s.ask(ctx, p, hp)
	if said = s.Reveal(ctx, errors.New(said), host, hp.Bundle); err != nil {
		text := s.Reveal(ctx, err, host, hp.Bundle)
		return fmt.Errorf("--dry-activate: %s: %s", host, strings.TrimSpace(text+"\n"+said))
	}

	hp.System.DryActivate = []string{"nothing would be stopped or started"}
	if said = strings.TrimSpace(said); said != "" {
		hp.System.DryActivate = strings.Split(said, "\n")
	}

	return nil
}

// ask asks a host, unless somebody is at work there, and until somebody wants to be.
func (s Systems) ask(ctx context.Context, p *plan.Plan, hp *plan.HostPlan) (said string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release, ok := s.Hosts.HoldIdle(hp.Name, func() { cancel(errBusy) })
	if !ok {
		return "", errBusy
	}
	defer release()

	sh := shellOn(s.Links, routes.To(p.Fleet, hp.Host, hp.Last.Arch, false))
	_, err = s.Nix.Bring(ctx, hp.System.To, hp.BuildsItself(), sh)
	code, out := 0, &limited{}
	if err == nil {
		code, err = sh(ctx, nixos.DryActivateCommand(hp.System.To), nil, out, out)
	}
	failed := new(nixos.Failure)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &failed):
		return "", errors.New(failed.Full())
	case err == nil && code != 0:
		err = fmt.Errorf("switch-to-configuration dry-activate ended with code %d", code)
	}

	return string(out.b), err
}

// limited keeps the first of what is written to it, by the two streams of a session at once.
type limited struct {
	mu sync.Mutex
	b  []byte
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p[:min(len(p), maxSaid-len(l.b))]...)
	return len(p), nil
}
