package service

import (
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/unitfile"
)

// With linger: true the quadlets of a service are units of its user's own systemd, and their containers run
// without root. Such a service has nothing else that would need units: a user's systemd and the host's don't
// know each other's.

// rootlessKinds are the quadlets that such a service may have.
var rootlessKinds = []string{"container", "volume", "network", "pod", "image"}

// LingersAs is the user whose own systemd runs the units of the service; "" where it is the host's.
func (s *Service) LingersAs() string {
	if s.User == nil || s.Def.User.Linger == nil || !*s.Def.User.Linger {
		return ""
	}
	return s.User.Name
}

// readLinger reports what a user lacks whose own systemd is to run the service.
func (s *reader) readLinger() {
	u := s.Def.User
	if s.LingersAs() == "" {
		return
	}
	if s.User.Home == "/" {
		s.report(u.Name.At, "linger: user %s needs a home, where its quadlets, images and volumes are: home: /srv/%s, say", u.Name.S, s.Name)
	}
	if len(u.ExtraGroups) > 0 {
		s.report(u.ExtraGroups[0].At, "extra_groups are not there yet for a user with linger: its containers would not be in them")
	}
}

// placeOf is the folder on the host that a unit file or quadlet goes to.
func (s *reader) placeOf(u *Unit) string {
	switch {
	case u.IsQuadlet && s.LingersAs() != "":
		return bundle.UserQuadletDir(s.User.Home)
	case u.IsQuadlet:
		return bundle.QuadletDir
	}
	return bundle.UnitDir
}

// notRootless says why a unit can't be one of a user's own systemd; "" when it can, or need not.
func (s *reader) notRootless(unit string) string {
	_, kind := unitfile.SplitName(unit)
	switch {
	case s.LingersAs() == "" || slices.Contains(rootlessKinds, kind):
		return ""
	case syntax.IsQuadlet(unit):
		return "a ." + kind + " is not there yet for a user with linger: ." + strings.Join(rootlessKinds, " .") + " are"
	}
	return "a service whose user has linger: true has quadlets alone: bellhop installs no other units into a user's own systemd; put it into a service of its own"
}

// checkRootless reports what a rootless service has beside quadlets and can't have.
func (s *reader) checkRootless() {
	user := s.LingersAs()
	if user == "" {
		return
	}

	isQuadlet := func(u Unit) bool { return u.IsQuadlet && !u.IsDropin }
	switch {
	case s.Compose != nil:
		s.report(s.Def.User.Name.At, "linger is for quadlets: docker runs compose projects, as root")
	case !slices.ContainsFunc(s.Units, isQuadlet):
		s.report(s.Def.User.Name.At, "linger is for quadlets, and this folder has none")
	case len(s.Keys) > 0:
		s.report(s.Keys[0].At, "keys are not there yet for a service whose user has linger: true; leave linger out, and the containers are root's, with keys")
	}
	for _, u := range s.Units {
		for _, by := range unitfile.Read(u.Blob.Data).Words("Install", "WantedBy") {
			if by == "multi-user.target" || by == "graphical.target" {
				s.reportFile(u.Source, "WantedBy=%s: a user's own systemd has no such target; WantedBy=default.target starts it at boot", by)
			}
		}
	}
	for i := range s.Def.Units {
		if e := &s.Def.Units[i]; !s.has(e.Key) {
			s.report(e.At, "units: %s is none of this folder, and the systemd of user %s is not asked about others", e.Key, user)
		}
	}
}
