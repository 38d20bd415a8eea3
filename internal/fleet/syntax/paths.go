package syntax

import (
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// places that are bellhop's, or that nobody installs files to.
var closedPlaces = []string{"/proc", "/sys", "/dev", bundle.KeyDir, bundle.StateDir, bundle.PackageDir, "/usr/local/libexec/bellhop"}

// accountFiles hold everybody, root among them: one file for all of them locks the host up.
var accountFiles = []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}

// BadPath says why path can't be installed to; "" when it can.
func BadPath(p string) string {
	if bad := bundle.BadPath(p); bad != "" {
		return bad
	}
	if slices.Contains(accountFiles, p) {
		return "accounts come from user: in service.yaml, never as a whole file"
	}
	for _, c := range closedPlaces {
		if Below(p, c) {
			return "below " + c + " is no place for this"
		}
	}

	for _, c := range []string{bundle.UnitDir, "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", bundle.QuadletDir} {
		if Below(p, c) {
			return "a unit or drop-in stands at the top of the service's folder, not below files/"
		}
	}

	return ""
}

// Below says whether p is dir, or a path below it.
func Below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// IsLogins says whether path is the list of keys that may log in as a user.
func IsLogins(path string) bool { return strings.HasSuffix(path, "/.ssh/authorized_keys") }
