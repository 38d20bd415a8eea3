package containers

import (
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/unitfile"
)

// The YAML of a .kube file is not parsed here, as the helper has no parser of YAML: what names images in it is read
// line by line. What is written in another way than block style, one key a line, or one container a line, is left to
// the unit, which pulls by itself.

// Yaml is the path of the YAML that a .kube file names; "" where only systemd or podman knows it.
func (q Quadlets) Yaml(name, dir string) string {
	p := q.unit(name).Value("Kube", "Yaml")
	isOrdinary := p != "" && !strings.ContainsAny(p, "%$ ")
	switch {
	case !isOrdinary:
		return ""
	case path.IsAbs(p):
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

// maxYaml is how many bytes of the YAML of a .kube file are read.
const maxYaml = 1 << 20

// ReadYaml reads the YAML of a .kube file that is on the host already, where a user may own it: what is no plain file, or
// has more than 1 MiB, is left to the unit, and so is what is not there.
func ReadYaml(file string) []byte {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that nobody writes to is not waited for
	if err != nil {
		return nil
	}
	defer f.Close()

	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return nil
	}

	text, err := io.ReadAll(io.LimitReader(f, maxYaml+1))
	if err != nil || len(text) > maxYaml {
		return nil
	}
	return text
}

// builtBy says that podman builds the image ref itself when the unit of the .kube file u starts: from the folder of the
// image's name, in the folder that the unit runs in. at is the path of the YAML; has says of a path whether it will be there.
func builtBy(u *unitfile.Unit, at, ref string, has func(path string) bool) bool {
	name, _, _ := strings.Cut(path.Base(ref), ":")
	name, _, _ = strings.Cut(name, "@")
	dirs := []string{path.Dir(at), bundle.QuadletDir, u.Value("Kube", "SetWorkingDirectory"), u.Value("Service", "WorkingDirectory")}

	return slices.ContainsFunc(dirs, func(dir string) bool {
		isThere := func(file string) bool { return has(path.Join(dir, name, file)) }
		return path.IsAbs(dir) && slices.ContainsFunc([]string{"Containerfile", "Dockerfile"}, isThere)
	})
}

// A yamlKey is a key whose value is in the lines below it.
type yamlKey struct {
	column int
	name   string
}

// A kubeReader reads lines of YAML.
type kubeReader struct {
	above      []yamlKey // of the line that is read, outermost first
	block      int       // column of the key whose text the lines below are; -1 for none
	containers []kubeContainer
}

// A kubeContainer is what is known of one container: its place is the order in the file.
type kubeContainer struct{ image, policy string }

// KubeImages are the images of the containers in text, the YAML of a .kube file, once each.
func KubeImages(text []byte) (images []Image) {
	r := kubeReader{block: -1}
	for line := range strings.Lines(string(text)) {
		r.line(strings.TrimRight(line, "\r\n"))
	}

	for _, c := range r.containers {
		i := Image{Engine: Podman, Ref: c.image, Policy: kubePolicies[c.policy]}
		isOrdinary := i.Ref != "" && !strings.ContainsAny(i.Ref, "%$ {}*&!\"'")
		isKnown := slices.ContainsFunc(images, func(o Image) bool { return o.Ref == i.Ref && o.Policy == i.Policy })
		if isOrdinary && !isKnown {
			images = append(images, i)
		}
	}
	return images
}

func (r *kubeReader) line(line string) {
	rest := strings.TrimLeft(line, " ")
	column := len(line) - len(rest)
	isText := r.block >= 0 && column > r.block
	if rest == "" || strings.HasPrefix(rest, "#") || isText {
		return
	}

	r.block = -1
	if strings.HasPrefix(rest, "---") {
		r.above = nil
		return
	}

	isItem := rest == "-" || strings.HasPrefix(rest, "- ")
	if isItem {
		r.leave(column + 1)
		inner := strings.TrimLeft(rest[1:], " ")
		column, rest = column+len(rest)-len(inner), inner
		if r.inContainers() {
			r.containers = append(r.containers, kubeContainer{})
		}
	} else {
		r.leave(column)
	}

	r.content(column, rest)
}

// leave forgets the keys that a line of that column is not below.
func (r *kubeReader) leave(column int) {
	r.above = slices.DeleteFunc(r.above, func(k yamlKey) bool { return k.column >= column })
}

// inContainers says that what is read belongs to the list of a pod's containers.
func (r *kubeReader) inContainers() bool {
	if len(r.above) == 0 {
		return false
	}
	name := r.above[len(r.above)-1].name
	return name == "containers" || name == "initContainers"
}

// content reads what a line holds after its indentation.
func (r *kubeReader) content(column int, text string) {
	isContainer := r.inContainers() && len(r.containers) > 0
	if isContainer && strings.HasPrefix(text, "{") {
		keys := flowKeys(text)
		r.containers[len(r.containers)-1] = kubeContainer{keys["image"], keys["imagePullPolicy"]}
		return
	}

	key, value, isKey := strings.Cut(text, ":")
	if !isKey {
		return
	}

	key, value = unquote(key), scalar(value)
	switch {
	case strings.HasPrefix(value, "|"), strings.HasPrefix(value, ">"):
		r.block = column
	case isContainer && key == "image":
		r.containers[len(r.containers)-1].image = value
	case isContainer && key == "imagePullPolicy":
		r.containers[len(r.containers)-1].policy = value
	case value == "":
		r.above = append(r.above, yamlKey{column, key})
	}
}

// kubePolicies are what imagePullPolicy: says, by its value.
var kubePolicies = map[string]string{"Always": PullAlways, "Never": PullNever, "IfNotPresent": PullMissing}

// scalar is the value of a line, without a comment.
func scalar(value string) string {
	value = strings.TrimSpace(value)
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	if strings.HasPrefix(value, "#") {
		return ""
	}
	return unquote(value)
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	for _, q := range []string{`"`, `'`} {
		if len(s) > 1 && strings.HasPrefix(s, q) && strings.HasSuffix(s, q) {
			return s[1 : len(s)-1]
		}
	}
	return s
}

// flowKeys are the keys of a mapping in one line whose values are words: {name: a, image: r/a:1}. One that holds
// others has none.
func flowKeys(line string) map[string]string {
	keys := map[string]string{}
	inner, isOne := strings.CutPrefix(scalar(line), "{")
	inner, isWhole := strings.CutSuffix(inner, "}")
	if !isOne || !isWhole || strings.ContainsAny(inner, "{}[]") {
		return keys
	}
	for part := range strings.SplitSeq(inner, ",") {
		key, value, _ := strings.Cut(part, ":")
		keys[unquote(key)] = unquote(value)
	}
	return keys
}
