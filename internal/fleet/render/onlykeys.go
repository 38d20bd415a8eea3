package render

import (
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
)

// OnlyKeys refuses services on a NixOS host that ask for more than keys: files, units and accounts are the
// configuration's there.
func OnlyKeys(b *bundle.Manifest) error {
	refuse := func(service, what string) error {
		return problem.Problems{{Host: b.Host, Message: fmt.Sprintf("service %s brings %s, and a NixOS host takes only keys from services: "+
			"put it into the host's NixOS configuration, or switch the service off here", service, what)}}
	}

	keyUnits := map[string]bool{}
	for _, u := range b.Units {
		if !u.KeyUnit {
			return refuse(u.Service, "the unit "+u.Name)
		}
		for _, path := range u.Files {
			keyUnits[path] = true
		}
	}

	for _, f := range b.Files {
		if !keyUnits[f.Path] {
			return refuse(f.Service, "the file "+f.Path)
		}
	}

	for _, l := range b.Links {
		return refuse(l.Service, "the link "+l.Path)
	}
	for _, p := range b.Packages {
		return refuse(p.Service, "a package")
	}
	for _, u := range b.Users {
		return refuse(u.Service, "the user "+u.Name)
	}

	return nil
}
