package commits

import (
	"fmt"
	"slices"

	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// A host may have had another name in an older commit. Its record is believed under a new name where both names
// pin the same host key (deploy/contact), and by that key its former name is found in the commit too.

// nameIn is the name of a host in the fleet of an older commit; "" when that has no such host.
func (a Archive) nameIn(f *fleet.Fleet, host string) string {
	last, _ := a.History.Host(host)
	isIt := func(h *fleet.Host) bool {
		return slices.ContainsFunc(h.HostKeys, func(k string) bool { return slices.Contains(last.Reach.HostKeys, k) })
	}

	same, ok := f.Host(host)
	if ok && isIt(same) {
		return host
	}

	var former []string
	for _, h := range f.Hosts {
		if isIt(h) {
			former = append(former, h.Name)
		}
	}

	switch held := a.nameOfHold(f, host); {
	case len(former) == 1:
		return former[0]
	case held != "":
		return held
	case ok: // its host key is another since, or nobody knows which of several it was
		return host
	}

	return ""
}

// nameOfHold is the name that a held host had when its hold began, where the fleet has it; else "".
func (a Archive) nameOfHold(f *fleet.Fleet, host string) string {
	hold := a.History.Holds().Of(host)
	if hold == nil {
		return ""
	}
	if _, ok := f.Host(hold.Host); !ok {
		return ""
	}
	return hold.Host
}

// wholeIn is the bundle of a host in the fleet of an older commit.
func (a Archive) wholeIn(f *fleet.Fleet, commit, host string) (*fleet.Bundle, error) {
	return a.bundleIn(f, commit, host, f.Bundle)
}

// bundleIn makes the bundle of a host in the fleet of an older commit, under its present name.
func (a Archive) bundleIn(f *fleet.Fleet, commit, host string, bundle func(name string) (*fleet.Bundle, error)) (*fleet.Bundle, error) {
	name := a.nameIn(f, host)
	if name == "" {
		return nil, fmt.Errorf("commit %s has no host %s", plain.Short(commit), host)
	}
	b, err := bundle(name)
	if err != nil {
		return nil, err
	}

	return b.As(host), nil
}
