package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/nixos"
	"bellhop/internal/push"
)

// What a run does about NixOS systems: they are evaluated before bundles are made, compared for people, and copied to
// the host before the bundle is offered.

// systems has the systems of f's hosts evaluated and built.
func (d *Deployer) systems(ctx context.Context, r *run, f *fleet.Fleet) {
	if d.Nix == nil || !f.HasNixOS() {
		return
	}
	defer r.span("nix", "")()
	r.event(Event{Step: "nix"})
	if r.req.Retry && !r.quiet {
		d.Nix.ForgetFailures()
	}
	f.ResolveSystems(ctx, r.head.Commit)
}

// brings says whether the closure of hp's system may be missing on the host.
func (hp *HostPlan) brings() bool {
	if hp.bundle == nil || hp.bundle.System == nil {
		return false
	}
	same := hp.old != nil && hp.old.System != nil && hp.old.System.Path == hp.bundle.System.Path
	return !same || !hp.last.Had
}

// copySystem is what brings the closure of the host's system there; nil when it is there.
func (d *Deployer) copySystem(r *run, hp *HostPlan, j *push.Job) func(context.Context) error {
	if !hp.brings() {
		return nil
	}
	path := hp.bundle.System.Path
	return func(ctx context.Context) error {
		carrier, ok := d.Links.(routes.Carrier)
		if !ok || d.Nix == nil {
			return push.Final(errors.New("this deployer can't copy NixOS systems"))
		}
		if hp.hold != nil && !nixos.Has(path) {
			return nil // the host held it before, and says so if it does not any more
		}

		began := time.Now()
		serve := func(ctx context.Context, in io.Reader, out, errs io.Writer) (int, error) {
			return carrier.Carry(ctx, j.Target, nixos.ServeCommand, in, out, errs)
		}
		copied, err := d.Nix.Copy(ctx, path, serve)
		if err != nil {
			return err
		}
		d.log().Info("system copied", "host", hp.Name, "run", r.head.ID, "system", path, "bytes", copied.Sent, "took", time.Since(began).Round(time.Millisecond))
		return nil
	}
}

// isSystemError says that a host has no bundle since its NixOS system can't be evaluated or built.
func isSystemError(err error) bool {
	var failed *fleet.SystemError
	return errors.As(err, &failed)
}

// systemEvidence is what Nix said of a host that has no system.
func systemEvidence(err error) []bundle.Evidence {
	var failed *fleet.SystemError
	if !errors.As(err, &failed) || len(failed.Lines) == 0 {
		return nil
	}
	return []bundle.Evidence{{Service: bundle.SystemService, Result: failed.Text, Lines: failed.Lines}}
}

// A SystemPlan is what changes with the NixOS system of a host.
type SystemPlan struct {
	From string `json:"from"` // the store path that it holds; "" when that is not known
	To   string `json:"to"`
	*nixos.Difference
	Notices []string `json:"notices,omitempty"`
	Error   string   `json:"error,omitempty"` // why the closures could not be compared
}

// compareSystems compares the closures of the hosts that a push goes to, for people.
func (d *Deployer) compareSystems(ctx context.Context, p *Plan) {
	for _, hp := range p.Hosts {
		if !hp.Push || hp.bundle == nil || hp.bundle.System == nil || d.Nix == nil {
			continue
		}
		s := &SystemPlan{To: hp.bundle.System.Path, Notices: hp.bundle.Notices()}
		if hp.old != nil && hp.old.System != nil {
			s.From = hp.old.System.Path
		}
		hp.System = s
		if s.From == s.To {
			continue
		}

		from := s.From
		if !nixos.Has(from) {
			from = ""
		}
		var err error
		if s.Difference, err = d.Nix.Difference(ctx, from, s.To); err != nil {
			s.Error = err.Error()
		} else if from != s.From {
			s.Error = "the system that it holds is not on this machine any more: all that the new one has is shown"
		}
	}
}

// mostPackages is how many packages of a difference are written out.
const mostPackages = 200

func (s *SystemPlan) write(w io.Writer) {
	for _, n := range s.Notices {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
	if s.Error != "" {
		fmt.Fprintf(w, "    %s\n", s.Error)
	}
	if s.Difference == nil {
		return
	}

	for i, p := range s.Packages {
		if i == mostPackages {
			fmt.Fprintf(w, "    and %d more\n", len(s.Packages)-i)
			break
		}
		fmt.Fprintf(w, "    %s\n", p)
	}
	for _, u := range s.Units {
		fmt.Fprintf(w, "    unit %s: %s\n", u.Name, u.Action)
	}
	fmt.Fprintf(w, "    closure %+.1f MiB, %.1f MiB to copy at most\n", float64(s.Size)/(1<<20), float64(s.Added)/(1<<20))
}
