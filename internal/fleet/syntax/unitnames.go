package syntax

import (
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/unitfile"
)

// UnitKinds are the endings of unit files that a service folder may hold.
var UnitKinds = []string{"service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice"}

var unitStem = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?$`)
var instanceRule = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+$`)

// IsUnit says whether name ends as a unit file of systemd does.
func IsUnit(name string) bool {
	_, kind := unitfile.SplitName(name)
	return slices.Contains(UnitKinds, kind)
}

// IsQuadlet says whether name ends as a file for podman's generator does.
func IsQuadlet(name string) bool {
	_, kind := unitfile.SplitName(name)
	return slices.Contains(unitfile.QuadletKinds, kind)
}

// ownUnits are the units that bellhop itself puts on a host.
var ownUnits = []string{"bellhop-apply.service", "bellhop-settle.service", "run-keys.mount"}

// CheckUnitName says what is wrong with a unit's name; "" when nothing is.
func CheckUnitName(name string) string {
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

// IsInstance says whether the instance of a unit can be called so.
func IsInstance(name string) bool { return instanceRule.MatchString(name) }

// GateName is the drop-in that bellhop itself writes for a unit.
const GateName = "50-bellhop.conf"

// GatePath is where that drop-in of a unit is on the host.
func GatePath(unit string) string { return bundle.UnitDir + "/" + unit + ".d/" + GateName }

// KeyUnitName is the unit that other units wait for in place of a key.
func KeyUnitName(key string) string { return key + "-key.service" }
