package nixos

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A system that its host builds is in no store here, and its closure is not known before it is built. What it is built from is
// here: a derivation for each package, and in NixOS one for each unit. So what differs is told by the names of derivations;
// packages that only the build needs are among them, and nobody knows a size.

// unitPrefix begins the name of the derivation that makes a unit, in NixOS.
const unitPrefix = "unit-"

// DifferenceOfBuilds compares what two systems are built from, where the second is not built here. old is "" for none. A system
// whose derivation is not in the store of this machine is ErrNotHere.
func (n *Nix) DifferenceOfBuilds(ctx context.Context, old, now string) (*Difference, error) {
	next, err := n.derivationsOf(ctx, now)
	if err != nil {
		return nil, err
	}

	before := closure{}
	if old != "" {
		if before, err = n.derivationsOf(ctx, old); err != nil {
			return nil, err
		}
	}

	d := compareClosures(before, next)
	d.OfBuilds = true
	d.Packages = slices.DeleteFunc(d.Packages, func(p Package) bool {
		isUnit := strings.HasPrefix(p.Name, unitPrefix)
		if isUnit {
			d.Units = append(d.Units, unitOf(p))
		}
		return isUnit
	})

	return &d, nil
}

// derivationsOf are the derivations that a system is built from, by what they build.
func (n *Nix) derivationsOf(ctx context.Context, system string) (closure, error) {
	s, ok := n.systemAt(system)
	if !ok || s.There || !Has(s.Drv) {
		return nil, fmt.Errorf("what %s is built from: %w", system, ErrNotHere)
	}
	out, err := n.output(ctx, "nix-store", "-qR", s.Drv)
	if err != nil {
		return nil, err
	}

	all := closure{}
	for path := range strings.FieldsSeq(string(out)) {
		if name, isDrv := strings.CutSuffix(path, ".drv"); isDrv && IsStorePath(name) {
			all[name] = 0
		}
	}
	return all, nil
}

// unitOf is a unit whose derivation differs. A name with a digit behind a dash was taken apart as that of a package is.
func unitOf(p Package) Unit {
	name := strings.TrimPrefix(p.Name, unitPrefix)
	if versions := append(slices.Clone(p.Old), p.New...); versions[0] != "" {
		name += "-" + versions[0]
	}

	switch {
	case len(p.Old) == 0:
		return Unit{name, "added"}
	case len(p.New) == 0:
		return Unit{name, "removed"}
	}
	return Unit{name, "changed"}
}
