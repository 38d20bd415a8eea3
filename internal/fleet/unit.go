package fleet

import (
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/unitfile"
)

// unitKinds are the endings of unit files that a service folder may hold.
var unitKinds = []string{"service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice"}

var unitStem = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?$`)
var instanceRule = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+$`)

// isUnit tells whether name ends as a unit file of systemd does.
func isUnit(name string) bool {
	_, kind := unitfile.SplitName(name)
	return slices.Contains(unitKinds, kind)
}

// isQuadlet tells whether name ends as a file for podman's generator does.
func isQuadlet(name string) bool {
	_, kind := unitfile.SplitName(name)
	return slices.Contains(unitfile.QuadletKinds, kind)
}

// ownUnits are the units that bellhop itself puts on a host.
var ownUnits = []string{"bellhop-apply.service", "bellhop-settle.service", "run-keys.mount"}

// checkUnitName says what is wrong with a unit's name; "" when nothing is.
func checkUnitName(name string) string {
	stem, _ := unitfile.SplitName(name)
	switch {
	case len(name) > 255:
		return "longer than 255"
	case !unitStem.MatchString(stem):
		return "want letters, digits and : _ . - \\, and at most one @ that is not first"
	case strings.HasSuffix(stem, "-"):
		return "a drop-in for all units of a prefix is not supported"
	case slices.Contains(ownUnits, name):
		return "this name is bellhop's own"
	}
	return ""
}
