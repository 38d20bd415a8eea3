package plan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/nixos"
)

// Brings says whether the closure of hp's system may be missing on the host.
func (hp *HostPlan) Brings() bool {
	if hp.Bundle == nil || hp.Bundle.System == nil {
		return false
	}
	same := hp.Old != nil && hp.Old.System != nil && hp.Old.System.Path == hp.Bundle.System.Path
	return !same || !hp.Last.Had
}

// BuildsItself says that the host builds its NixOS system itself.
func (hp *HostPlan) BuildsItself() bool { return hp.Host.NixOS != nil && hp.Host.NixOS.OnHost }

// systemError is why a host has no bundle, where that is its NixOS system; nil where it is not.
func systemError(err error) *fleet.SystemError {
	var failed *fleet.SystemError
	errors.As(err, &failed)
	return failed
}

// systemState is the state of a host without a system. One whose system is still being made waits for it, and is
// not away: nobody tried to reach it.
func systemState(failed *fleet.SystemError, last history.Host) history.State {
	switch {
	case !failed.Later:
		return history.Failed
	case last.State == history.Unknown:
		return history.Unknown
	case !last.Had:
		return history.Never
	}
	return history.Behind
}

// systemEvidence is what Nix said of a host that has no system.
func systemEvidence(err error) []bundle.Evidence {
	failed := systemError(err)
	if failed == nil || len(failed.Lines) == 0 {
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
	// DryActivate is what the host said that going over to it would do; nil: it was not asked.
	DryActivate []string `json:"dry_activate,omitempty"`
	Error       string   `json:"error,omitempty"` // why the closures could not be compared
}

// CompareSystems compares the closures of the hosts that a push goes to, for people. A nil nix compares nothing.
func (p *Plan) CompareSystems(ctx context.Context, nix *nixos.Nix) {
	if nix == nil {
		return
	}

	for _, hp := range p.Hosts {
		if !hp.Push || hp.Bundle == nil || hp.Bundle.System == nil {
			continue
		}
		s := &SystemPlan{To: hp.Bundle.System.Path, Notices: hp.Bundle.Notices()}
		if hp.Old != nil && hp.Old.System != nil {
			s.From = hp.Old.System.Path
		}
		hp.System = s
		if s.From == s.To {
			continue
		}

		if !nixos.Has(s.To) && hp.BuildsItself() {
			s.compareBuilds(ctx, nix)
			continue
		}
		from := s.From
		if !nixos.Has(from) {
			from = ""
		}
		var err error
		if s.Difference, err = nix.Difference(ctx, from, s.To); err != nil {
			s.Error = err.Error()
		} else if from != s.From {
			s.Error = "the system that it holds is not on this machine any more: all that the new one has is shown"
		}
	}
}

// compareBuilds compares what the systems of a host are built from that builds them itself.
func (s *SystemPlan) compareBuilds(ctx context.Context, nix *nixos.Nix) {
	const unknown = "the host builds the system itself, so which packages it will have, and how large they are, is not known before it is built"
	var err error
	if s.Difference, err = nix.DifferenceOfBuilds(ctx, s.From, s.To); err == nil {
		s.Error = unknown + "; what it is built from differs so:"
		return
	}

	s.Error = unknown + ", and what the systems are built from is not here to be compared; bellhop plan --dry-activate has the host build it, and say which units change"
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
	for _, l := range s.DryActivate {
		fmt.Fprintf(w, "    dry-activate: %s\n", l)
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
	if s.OfBuilds {
		return
	}
	fmt.Fprintf(w, "    closure %+.1f MiB, %.1f MiB to copy at most\n", float64(s.Size)/(1<<20), float64(s.Added)/(1<<20))
}
