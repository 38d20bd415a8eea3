// Package systems brings NixOS systems to hosts: it copies them there, or has the host build them, and asks hosts before there
// is a plan, where they evaluate their systems themselves.
//
// Its promise: what runs on a host for that is one constant command of bellhop's, over the connection that is pinned.
package systems

import (
	"context"
	"errors"
	"time"

	"bellhop/deploy/contact"
	"bellhop/deploy/plan"
	"bellhop/internal/link"
	"bellhop/internal/nixos"
	"bellhop/internal/push"
)

// Systems brings systems to hosts. A nil Nix brings none.
type Systems struct {
	contact.Contact
	Nix *nixos.Nix
}

// Bring is what has hp's system on its host, to which t leads, in a run; nil when it is there.
func (s Systems) Bring(run string, hp *plan.HostPlan, t link.Target) func(context.Context) error {
	if !hp.Brings() {
		return nil
	}

	path := hp.Bundle.System.Path
	return func(ctx context.Context) error {
		if s.Nix == nil {
			return push.Final(errors.New("this deployer can't copy NixOS systems"))
		}
		if hp.Hold != nil && !nixos.Has(path) && !hp.BuildsItself() {
			return nil // the host held it before, and says so if it does not any more
		}

		began := time.Now()
		copied, err := s.Nix.Bring(ctx, path, hp.BuildsItself(), shellOn(s.Links, t))
		if failed := new(nixos.Failure); errors.As(err, &failed) {
			return push.Final(errors.New(failed.Full()))
		}
		if err != nil {
			return err
		}
		s.Log.Info("system copied", "host", hp.Name, "run", run, "system", path, "bytes", copied.Sent, "took", time.Since(began).Round(time.Millisecond))
		return nil
	}
}
