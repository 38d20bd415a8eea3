package plan

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// Where things of a bundle may not be. A path is judged by the folder that it reaches, since a
// folder has many spellings: /var/run is /run, /lib is /usr/lib, and a bind mount gives any
// folder another name.

// closed are bellhop's own folders, and those of the kernel.
var closed = []string{bundle.StateDir, bundle.KeyDir, bundle.PackageDir, "/usr/local/libexec/bellhop", "/proc", "/sys", "/dev"}

// unitFolders are where systemd and podman look for units. A unit of a bundle is installed to
// UnitDir or QuadletDir, by that name, so that everything else here knows of it.
var unitFolders = []string{
	bundle.UnitDir, "/etc/systemd/system.control", "/etc/systemd/system.attached", "/run/systemd/system", "/run/systemd/system.control",
	"/run/systemd/system.attached", "/run/systemd/transient", "/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
	bundle.QuadletDir, "/run/containers/systemd", "/usr/share/containers/systemd",
}

// snippetFolders are where bellhop's own snippets for accounts and homes lie.
var snippetFolders = []string{"/etc/sysusers.d", "/etc/tmpfiles.d"}

// accountFiles hold everybody, root among them.
var accountFiles = []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}

// systemFolders are no place for a home: a home is given to its user.
var systemFolders = []string{"/bin", "/boot", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/sbin", "/usr",
	"/var/lib/dpkg", "/var/lib/rpm", "/var/lib/pacman", "/var/lib/systemd", "/run/systemd"}

// systemRoots are those of them that hold the others.
var systemRoots = []string{"/boot", "/etc", "/nix", "/usr"}

// within says whether p is dir, or lies below it.
func within(p, dir string) bool { return p == dir || owned.Below(p, dir) }

func withinAny(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(p, dir) })
}

// A resolver tells which folder a path reaches. It remembers: a host has hundreds of paths in few
// folders.
type resolver struct {
	m      state.Dir
	known  map[owned.Place]string // the folders above, by what they are
	folder map[string]string
}

func newResolver(m state.Dir) *resolver {
	r := &resolver{m: m, known: map[owned.Place]string{}, folder: map[string]string{}}
	for _, dir := range slices.Concat(closed, unitFolders, snippetFolders, systemRoots) {
		f, err := m.Tree().Folder(dir, false)
		if err != nil {
			continue
		}

		var st unix.Stat_t
		err = unix.Fstat(f.FD(), &st)
		f.Close()
		if _, named := r.known[owned.PlaceOf(&st)]; err == nil && !named {
			r.known[owned.PlaceOf(&st)] = dir
		}
	}

	return r
}

// resolve is the path that p means: every link on the way followed, and what is one of the folders
// above under another name called by its name. Folders that are missing keep their names.
func (r *resolver) resolve(p string) (string, error) {
	dir := owned.ParentOf(p)
	at, ok := r.folder[dir]
	if !ok {
		var err error
		if at, err = r.m.Tree().Reach(dir, r.known); err != nil {
			return "", err
		}

		r.folder[dir] = at
	}
	return path.Join(at, path.Base(p)), nil
}

// unitsOfBundles are where a bundle may have units. On NixOS that is below /run, since /etc is read-only.
func unitsOfBundles(m state.Dir) []string {
	if m.NixOS() {
		return []string{bundle.UnitDir, bundle.QuadletDir, bundle.RunUnitDir}
	}
	return []string{bundle.UnitDir, bundle.QuadletDir}
}

// badPlace says why nothing of a bundle may be at p, which reaches the path reached. units are where its
// units may be.
func badPlace(p, reached string, units []string) error {
	led := ""
	if reached != p {
		led = ", where it leads"
	}

	switch {
	case withinAny(reached, closed) && !owned.Below(reached, bundle.PackageDir):
		return fmt.Errorf("%s%s is not for files", reached, led)
	case owned.Below(reached, bundle.PackageDir) && !owned.Below(p, bundle.PackageDir): // a package's link is bellhop's own
		return fmt.Errorf("%s%s is not for files", reached, led)
	case withinAny(reached, unitFolders) && !(reached == p && withinAny(p, units)):
		return fmt.Errorf("%s%s is a place for units: a unit stands at the top of its service's folder", reached, led)
	case withinAny(reached, snippetFolders) && reached != p:
		return fmt.Errorf("%s%s is a place of bellhop's own: give the path by that name", reached, led)
	case slices.Contains(accountFiles, strings.TrimSuffix(reached, "-")):
		return fmt.Errorf("%s%s holds the accounts of the host", reached, led)
	}

	return nil
}

// checkPlaces refuses a bundle whose paths lead where nothing of a bundle may be, or lead two of
// them to one place.
func (w *Plan) checkPlaces(wanted map[string]desire) error {
	r := newResolver(w.m)
	units := unitsOfBundles(w.m)
	taken := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(wanted)) {
		reached, err := r.resolve(p)
		if err != nil {
			continue // the look says why, and whose fault it is
		}

		own := wanted[p].trigger != "" && strings.HasPrefix(wanted[p].trigger, bundle.KindSystem+":")
		if err := badPlace(p, reached, units); err != nil && !own {
			if err := w.refuse(wanted[p].service, fmt.Errorf("%s: %w", p, err)); err != nil {
				return err
			}
			continue
		}
		if other, ok := taken[reached]; ok {
			why := fmt.Errorf("%s and %s are one path on this host, %s", other, p, reached)
			if err := errors.Join(w.refuse(wanted[p].service, why), w.refuse(wanted[other].service, why)); err != nil {
				return err
			}
			continue
		}

		taken[reached] = p
	}

	return nil
}
