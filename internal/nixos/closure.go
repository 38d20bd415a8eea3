package nixos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A closure is a store path with all that it refers to: path to size in bytes.
type closure map[string]int64

// ErrNotHere says that a path is not in the store of this machine.
var ErrNotHere = errors.New("it is not in the store of this machine")

// closureOf asks Nix for the closure of a path in the store.
func (n *Nix) closureOf(ctx context.Context, path string) (closure, error) {
	out, err := n.output(ctx, "nix", "--extra-experimental-features", "nix-command", "path-info", "-r", "--json", path)
	if err != nil {
		return nil, err
	}
	return parsePathInfo(out)
}

// pathInfo is one path in the answer of nix path-info.
type pathInfo struct {
	Path    string `json:"path"`
	NarSize int64  `json:"narSize"`
	Valid   *bool  `json:"valid"`
}

const maxClosure = 1_000_000

// parsePathInfo reads the JSON of nix path-info, in the two shapes that there are: a list of paths (until
// Nix 2.18) and an object with a path for each key, null for one that is not in the store.
func parsePathInfo(text []byte) (closure, error) {
	var list []pathInfo
	if err := json.Unmarshal(text, &list); err != nil {
		var byPath map[string]*pathInfo
		if err := json.Unmarshal(text, &byPath); err != nil {
			return nil, fmt.Errorf("read the answer of nix path-info: %w", err)
		}
		for path, info := range byPath {
			if info == nil {
				return nil, fmt.Errorf("%s: %w", path, ErrNotHere)
			}
			info.Path = path
			list = append(list, *info)
		}
	}

	if len(list) > maxClosure {
		return nil, fmt.Errorf("a closure of %d paths is too large", len(list))
	}

	c := closure{}
	for _, info := range list {
		if info.Valid != nil && !*info.Valid {
			return nil, fmt.Errorf("%s: %w", info.Path, ErrNotHere)
		}
		if !IsStorePath(info.Path) || info.NarSize < 0 {
			return nil, fmt.Errorf("nix path-info names %q, which is no store path", info.Path)
		}
		c[info.Path] = info.NarSize
	}

	return c, nil
}

// A Package is one name in the difference of two closures, with the versions that there are on each side.
// Old is empty for one that is added, New for one that is removed.
type Package struct {
	Name string   `json:"name"`
	Old  []string `json:"old,omitempty"`
	New  []string `json:"new,omitempty"`
}

// String is p as a plan shows it: "curl 8.1 → 8.2".
func (p Package) String() string {
	old, now := strings.Join(p.Old, ", "), strings.Join(p.New, ", ")
	switch {
	case len(p.Old) == 0:
		return strings.TrimSpace("+ " + p.Name + " " + now)
	case len(p.New) == 0:
		return strings.TrimSpace("- " + p.Name + " " + old)
	case old == now:
		return strings.TrimSpace(p.Name + " " + now + " (rebuilt)")
	}

	return p.Name + " " + old + " → " + now
}

// A Difference is what changes between two closures.
type Difference struct {
	Packages []Package `json:"packages,omitempty"` // by name
	Size     int64     `json:"size"`               // bytes that the closure grows by
	Added    int64     `json:"added"`              // bytes of the paths that only the new one has
	Units    []Unit    `json:"units,omitempty"`    // whose files differ, by name
	// OfBuilds says that what the systems are built from was compared, since the new one is not built yet: sizes are not known,
	// and packages that only the build needs are among them.
	OfBuilds bool `json:"of_builds,omitempty"`
}

// compareClosures is the difference of two closures, without units.
func compareClosures(old, now closure) Difference {
	type versions struct{ old, now []string }
	byName := map[string]*versions{}
	at := func(path string) (*versions, string) {
		name, version := splitName(path)
		if byName[name] == nil {
			byName[name] = &versions{}
		}
		return byName[name], version
	}

	var d Difference
	for path, size := range now {
		if _, both := old[path]; !both {
			d.Size, d.Added = d.Size+size, d.Added+size
			v, version := at(path)
			v.now = append(v.now, version)
		}
	}

	for path, size := range old {
		if _, both := now[path]; !both {
			d.Size -= size
			v, version := at(path)
			v.old = append(v.old, version)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(byName)) {
		v := byName[name]
		slices.Sort(v.old)
		slices.Sort(v.now)
		d.Packages = append(d.Packages, Package{Name: name, Old: slices.Compact(v.old), New: slices.Compact(v.now)})
	}

	return d
}

var (
	versionStart = regexp.MustCompile(`-[0-9]`)
	outputSuffix = regexp.MustCompile(`-(bin|dev|doc|man|lib|out|info|data|debug|devdoc)$`)
)

// splitName divides the name of a store path where Nix's parseDrvName does: at the first dash before a digit.
// The output of a package is told with its version.
func splitName(path string) (name, version string) {
	name = strings.TrimPrefix(path, StoreDir+"/")
	if len(name) > 33 {
		name = name[33:]
	}
	output := outputSuffix.FindString(name)
	name = strings.TrimSuffix(name, output)
	if at := versionStart.FindStringIndex(name); at != nil {
		name, version = name[:at[0]], name[at[0]+1:]
	}

	return name, version + output
}

// Difference compares the closures of two systems in the store of this machine. old is "" for none. An old system
// that is not here is ErrNotHere.
func (n *Nix) Difference(ctx context.Context, old, now string) (*Difference, error) {
	next, err := n.closureOf(ctx, now)
	if err != nil {
		return nil, err
	}

	before := closure{}
	if old != "" {
		invalid, err := n.invalid(ctx, []string{old})
		if err != nil {
			return nil, err
		}
		if invalid[old] {
			return nil, fmt.Errorf("%s: %w", old, ErrNotHere)
		}
		if before, err = n.closureOf(ctx, old); err != nil {
			return nil, err
		}
	}

	d := compareClosures(before, next)
	d.Units, err = compareUnits(old, now)
	return &d, err
}
