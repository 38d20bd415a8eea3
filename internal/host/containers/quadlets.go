package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"bellhop/internal/host/machine"
	"bellhop/internal/unitfile"
)

// Generator is podman's, which makes units of quadlets.
const Generator = "/usr/lib/systemd/system-generators/podman-system-generator"

// Quadlets are the files of the folder of quadlets, drop-ins among them, by their path below it.
type Quadlets map[string][]byte

// ReadQuadlets reads the folder at dir. What can't be read is left out: podman does not read it either.
func ReadQuadlets(dir string) Quadlets {
	all := Quadlets{}
	read := func(name string) {
		if p, err := os.ReadFile(filepath.Join(dir, name)); err == nil && len(p) <= maxQuadlet {
			all[name] = p
		}
	}

	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".d") {
			read(e.Name())
			continue
		}
		dropIns, _ := os.ReadDir(filepath.Join(dir, e.Name()))
		for _, d := range dropIns {
			read(path.Join(e.Name(), d.Name()))
		}
	}
	return all
}

const maxQuadlet = 1 << 20 // bytes

// unit is a quadlet with its drop-ins, as podman reads them.
func (q Quadlets) unit(name string) *unitfile.Unit {
	texts := [][]byte{q[name]}
	for _, d := range slices.Sorted(maps.Keys(q)) {
		if path.Dir(d) == name+".d" && strings.HasSuffix(d, ".conf") {
			texts = append(texts, q[d])
		}
	}
	return unitfile.Read(texts...)
}

// quadletOf is the quadlet that a file of the folder is, or is a drop-in of.
func quadletOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return strings.TrimSuffix(dir, ".d")
	}
	return name
}

// Pods are the images of the containers that a .kube runs, as yaml has them, which is at the path at. Those that podman
// builds from a folder when the unit starts are left out: has says of a path whether it will be there.
func (q Quadlets) Pods(name, at string, yaml []byte, has func(path string) bool) (images []Image) {
	u := q.unit(name)
	for _, i := range KubeImages(yaml) {
		if !builtBy(u, at, i.Ref, has) {
			i.Options = pullOptions(u, "Kube")
			images = append(images, i)
		}
	}
	return images
}

// Images are those that the quadlets run which the files named in changed make or change; service names
// whose a file is. What a .build makes is a Builder's.
func (q Quadlets) Images(changed []string, service func(name string) string) []Image {
	seen := map[string]bool{}
	var images []Image
	for _, c := range changed {
		name := quadletOf(c)
		if _, there := q[name]; !there || seen[name] {
			continue
		}

		seen[name] = true
		if i, ok := q.image(name); ok {
			i.Service = service(name)
			images = append(images, i)
		}
	}

	return images
}

// image is the image that one quadlet runs or pulls.
func (q Quadlets) image(name string) (Image, bool) {
	_, kind := unitfile.SplitName(name)
	u := q.unit(name)
	i := Image{Engine: Podman}

	switch kind {
	case "container":
		i.Ref, i.Policy = u.Value("Container", "Image"), u.Value("Container", "Pull")
		if _, is := unitfile.SplitName(i.Ref); is == "image" && q[i.Ref] != nil {
			return q.image(i.Ref)
		}
		if _, is := unitfile.SplitName(i.Ref); is == "build" && q[i.Ref] != nil {
			return i, false
		}
		i.Options = pullOptions(u, "Container")
	case "image":
		i.Ref, i.Options = u.Value("Image", "Image"), pullOptions(u, "Image")
	default:
		return i, false
	}

	if i.Policy == "newer" {
		i.Policy = PullAlways
	}
	isOrdinary := i.Ref != "" && !strings.ContainsAny(i.Ref, "%$ ") // specifiers are systemd's to fill in
	return i, isOrdinary
}

// AutoUpdates are the quadlets among those named whose images podman may replace by itself.
func (q Quadlets) AutoUpdates(names []string) (found []string) {
	for _, n := range names {
		name := quadletOf(n)
		u := q.unit(name)
		isTold := u.Value("Container", "AutoUpdate") == "registry" || u.Value("Kube", "AutoUpdate") == "registry"
		if isTold && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

// AskAtStart are the quadlets among those named that ask their registry for a newer image whenever they start.
func (q Quadlets) AskAtStart(names []string) (found []string) {
	for _, n := range names {
		name := quadletOf(n)
		pull := q.unit(name).Value("Container", "Pull")
		asks := pull == PullAlways || pull == "newer"
		if asks && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

// A QuadletError is what podman's generator says against one file.
type QuadletError struct {
	Name string // of the quadlet; "" where the generator names none
	Text string
}

func (e *QuadletError) Error() string { return "podman would make no unit: " + e.Text }

// Validate asks the host's own generator about the quadlets as they will be, in a scratch folder below
// scratch, and returns what it says against them and does not say of those that are there now. A host
// without the generator is told by its units later.
func Validate(ctx context.Context, programs machine.Programs, scratch string, now, next Quadlets) (bad []*QuadletError, err error) {
	before, err := dryRun(ctx, programs, filepath.Join(scratch, "now"), now)
	if err != nil {
		return nil, err
	}
	after, err := dryRun(ctx, programs, filepath.Join(scratch, "next"), next)
	if err != nil {
		return nil, err
	}

	for _, line := range after {
		if slices.Contains(before, line) {
			continue
		}
		bad = append(bad, &QuadletError{Name: next.named(line), Text: line})
	}
	return bad, nil
}

// named is the quadlet that a line of the generator is about.
func (q Quadlets) named(line string) (longest string) {
	for name := range q {
		if strings.Contains(line, name) && len(name) > len(longest) {
			longest = name
		}
	}
	return quadletOf(longest)
}

// generatorTag begins each line of the generator.
var generatorTag = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(podman-system-generator|quadlet-generator)\[\d+\]: `)
})

// dryRun returns the errors that the generator has of some quadlets. It also writes warnings, so lines
// count only where it failed.
func dryRun(ctx context.Context, programs machine.Programs, dir string, q Quadlets) (lines []string, err error) {
	if len(q) == 0 {
		return nil, nil
	}
	if err := q.write(dir); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := programs.Run(ctx, machine.Program{Argv: []string{Generator, "--dryrun"}, Env: []string{"QUADLET_UNIT_DIRS=" + dir}})
	if err != nil {
		return nil, fmt.Errorf("ask podman's generator about quadlets: %w", err)
	}
	if out.Exit == 0 {
		return nil, nil
	}

	for _, line := range strings.Split(out.Stderr, "\n") {
		line = generatorTag().ReplaceAllString(strings.TrimSpace(line), "")
		line = strings.ReplaceAll(line, dir, "/etc/containers/systemd")
		isNoise := line == "" || strings.HasPrefix(line, "Loading source unit file") || strings.HasPrefix(line, "Warning:")
		if !isNoise {
			lines = append(lines, line)
		}
	}

	if len(lines) == 0 {
		return nil, errors.New("podman's generator fails and does not say why")
	}

	return lines, nil
}

// write writes the files of q below dir.
func (q Quadlets) write(dir string) error {
	for name, text := range q {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(p, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
