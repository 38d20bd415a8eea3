package systems

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/link"
	"bellhop/internal/nixos"
	"bellhop/internal/push"
)

// Tunnels are the routes to the hosts of the fleet that was loaded last, for what is asked of a host before there is a plan.
type Tunnels struct {
	mu    sync.Mutex
	fleet *fleet.Fleet
	arch  func(host string) string
}

// Now takes the routes of f from here on. arch is the architecture of a host, "" where that is not known.
func (w *Tunnels) Now(f *fleet.Fleet, arch func(host string) string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fleet, w.arch = f, arch
}

// On runs commands on a host by its name.
func (w *Tunnels) On(l routes.Links, host string) nixos.Shell {
	return func(ctx context.Context, cmd string, in io.Reader, out, errs io.Writer) (int, error) {
		w.mu.Lock()
		f, arch := w.fleet, w.arch
		w.mu.Unlock()

		if f == nil {
			return 0, fmt.Errorf("no fleet is loaded that has %s", host)
		}
		h, ok := f.Host(host)
		if !ok {
			return 0, fmt.Errorf("%s left the repo", host)
		}
		return shellOn(l, routes.To(f, h, arch(host), false))(ctx, cmd, in, out, errs)
	}
}

// shellOn runs commands on the host that t leads to.
func shellOn(l routes.Links, t link.Target) nixos.Shell {
	return func(ctx context.Context, cmd string, in io.Reader, out, errs io.Writer) (int, error) {
		carrier, ok := l.(routes.Carrier)
		if !ok {
			return 0, push.Final(errors.New("this deployer can't copy NixOS systems"))
		}
		return carrier.Carry(ctx, t, cmd, in, out, errs)
	}
}
