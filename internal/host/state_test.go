package host_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// all is everything that stands on the box, less bellhop's own memory: what a test compares
// to say "as it was".
func (b *box) all() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, b.dir)
		if name == "/var/lib/bellhop" {
			return fs.SkipDir
		}
		// What stays by design, and no run takes back: the store's folder, the ramfs itself. Links to packages do
		// not stay.
		isPackage := strings.HasPrefix(name, "/opt/bellhop/") && d.Type() == fs.ModeSymlink
		if name == "" || strings.HasPrefix(name, "/opt") && !isPackage || name == "/run/keys" {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		owner := b.ownerOf(name)
		text := fmt.Sprintf("%v %s:%s ", st.Mode(), owner[0], owner[1])
		switch {
		case st.Mode().IsRegular():
			text += b.read(name)
		case st.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			text = "-> " + target
		default:
			text = "folder"
		}
		out[name] = text
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(b.active)) {
		out["active "+n] = fmt.Sprint(b.active[n])
	}
	for n := range b.enabled {
		out["enabled "+n] = "true"
	}
	return out
}

func diff(a, b map[string]string) (out []string) {
	for k, v := range a {
		if b[k] != v {
			out = append(out, fmt.Sprintf("%s: %q became %q", k, v, b[k]))
		}
	}
	for k, v := range b {
		if _, ok := a[k]; !ok {
			out = append(out, fmt.Sprintf("%s: %q is new", k, v))
		}
	}
	slices.Sort(out)
	return out
}

func (b *box) compare(before map[string]string, when string) {
	b.t.Helper()
	if d := diff(before, b.all()); len(d) > 0 {
		b.t.Errorf("%s:\n%s", when, strings.Join(d, "\n"))
	}
}
