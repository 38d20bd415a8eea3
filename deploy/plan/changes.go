package plan

import (
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// A change is the difference between two manifests.
type change struct {
	changes []bundle.Change
	units   UnitPlan
	guard   string // why it needs consent
	volumes string // what of compose projects would be left behind, or ignored; "" for nothing

	containers []bundle.ContainerChange
}

// changes holds what was worked out once for all hosts of a plan that are of one kind: a push to
// a thousand web servers compares one manifest with one other. It is for planning, and so for
// one goroutine.
type changes map[step]*change

// A step leads from one manifest to a bundle of one kind.
type step struct {
	from string // digest
	to   any
}

// of compares b with old, whose digest is from; nil is nothing.
func (all *changes) of(from string, old *bundle.Manifest, b *fleet.Bundle) *change {
	s := step{from, b.Kind()}
	if c := (*all)[s]; c != nil {
		return c
	}

	var was bundle.Manifest
	if old != nil {
		was = *old
	}
	c := &change{changes: bundle.Diff(was, b.Manifest), guard: pruneGuard(was, b.Manifest)}
	c.units = bundle.PreviewUnits(was, b.Manifest, c.changes)
	c.containers = bundle.PreviewContainers(was, b.Manifest, c.changes)
	for _, v := range bundle.NewVolumes(was, b.Manifest) {
		c.volumes += v.String() + "; "
	}
	c.volumes = strings.TrimSuffix(c.volumes, "; ")

	if *all == nil {
		*all = changes{}
	}
	(*all)[s] = c
	return c
}
