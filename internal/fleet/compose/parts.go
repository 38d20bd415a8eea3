package compose

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"bellhop/internal/fleet/problem"
)

// compose-go reads the files of include: and extends: from a disk. So both are resolved before it begins: what
// an included file or the base of a service comes to is written into the file that names it. A base becomes
// a service of its own, with a name that no service can have by accident, which is dropped from the model.

const basePrefix = "bellhop.base."

// dropBases removes the services that were only there to be extended.
func dropBases(model map[string]any) {
	services, _ := model["services"].(map[string]any)
	for name := range services {
		if strings.HasPrefix(name, basePrefix) {
			delete(services, name)
		}
	}
}

// prepare is a compose file of the folder with everything that it takes from other files in it. from is the
// folder that paths of it are relative to. It is nil when that was reported.
func (r *reading) prepare(name, from string) *doc {
	if r.open == nil {
		r.open, r.bases = map[string]bool{}, map[[2]string]string{}
	}
	d := r.parse(name)
	if d == nil {
		return nil
	}
	if r.open[name] {
		r.report(d, problem.Pos{}, "includes or extends itself, by way of other files")
		return nil
	}

	r.open[name] = true
	defer delete(r.open, name)
	return r.resolved(d, from)
}

func (r *reading) resolved(d *doc, from string) *doc {
	if d.prepared {
		return d
	}

	if d.prune() && (!r.includes(d, from) || !r.extends(d, from)) {
		return nil
	}
	if at := leftover(d.root, 0); at != nil {
		r.report(d, place(at), "extends: with file: is resolved where a service says it itself: write it there, without an anchor or a merge")
		return nil
	}
	if !r.opensNothing(d) {
		return nil
	}

	d.prepared = true
	return d
}

// prune removes what only development uses, and says whether the file takes anything from others.
func (d *doc) prune() bool {
	takes := false
	_, services := child(d.root, "services")
	for _, s := range mapped(services) {
		if _, develop := child(s.value, "develop"); develop != nil {
			remove(s.value, "develop")
			d.changed = true
		}
	}
	if _, v := child(d.root, "include"); v != nil {
		takes = true
	}
	return takes || leftover(d.root, 0) != nil
}

// leftover is an extends: with file: that is left anywhere.
func leftover(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
		return nil
	}
	if k, v := child(n, "extends"); n.Kind == yaml.MappingNode && v != nil {
		if _, file := child(v, "file"); file != nil {
			return k
		}
	}
	for _, c := range n.Content {
		if at := leftover(c, depth+1); at != nil {
			return at
		}
	}
	return nil
}

func place(n *yaml.Node) problem.Pos { return problem.Pos{Line: n.Line, Column: n.Column} }

// A pair is one entry of a mapping.
type pair struct{ key, value *yaml.Node }

func mapped(n *yaml.Node) []pair {
	n = plainNode(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var out []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, pair{n.Content[i], n.Content[i+1]})
	}
	return out
}

func remove(n *yaml.Node, key string) {
	n = plainNode(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

// words are the texts of a scalar or a list of them.
func words(n *yaml.Node) []*yaml.Node {
	n = plainNode(n)
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	}
	return n.Content
}

// extends resolves the services of a file that extend one of another file.
func (r *reading) extends(d *doc, from string) bool {
	_, services := child(d.root, "services")
	for _, s := range mapped(services) {
		k, v := child(s.value, "extends")
		_, file := child(v, "file")
		if file == nil || plainNode(s.value) != s.value {
			continue
		}

		_, ref := child(v, "service")
		if ref == nil {
			r.report(d, place(k), "extends: has file: and no service:")
			return false
		}
		name, why := r.inside(from, file.Value)
		if why != "" {
			r.report(d, place(file), "extends: file %q %s", file.Value, why)
			return false
		}

		made := r.base(d, services, name, ref.Value, file)
		if made == "" {
			return false
		}
		remove(s.value, "extends")
		s.value.Content = append(s.value.Content, scalar("extends"), scalar(made))
		d.changed = true
	}
	return true
}

// base writes the service ref of another file into the services of d, and is the name that it has there; ""
// when it can't.
func (r *reading) base(d *doc, services *yaml.Node, name, ref string, at *yaml.Node) string {
	key := [2]string{name, ref}
	if made, known := r.bases[key]; known {
		if made == "" {
			r.report(d, place(at), "extends: service %s of %s extends itself, by way of other services", ref, name)
			return ""
		}
		if _, here := child(services, made); here != nil {
			return made
		}
	}

	r.bases[key] = ""
	defer func() {
		if r.bases[key] == "" {
			delete(r.bases, key)
		}
	}()
	model := r.part(name)
	if model == nil {
		return ""
	}
	all, _ := model["services"].(map[string]any)
	found, ok := all[ref].(map[string]any)
	if !ok {
		r.report(d, place(at), "extends: there is no service %s in %s", ref, name)
		return ""
	}

	found = maps.Clone(found)
	if up := r.baseOf(d, services, name, found, at); up == "" {
		return ""
	} else if up != noBase {
		found["extends"] = up
	}

	r.made++
	made := fmt.Sprintf("%s%d", basePrefix, r.made)
	services.Content = append(services.Content, scalar(made), nodeOf(found))
	r.bases[key] = made
	return made
}

const noBase = "-"

// baseOf resolves what a base extends itself: noBase for nothing, "" when that was reported.
func (r *reading) baseOf(d *doc, services *yaml.Node, name string, found map[string]any, at *yaml.Node) string {
	switch up := found["extends"].(type) {
	case nil:
		return noBase
	case string:
		return r.base(d, services, name, up, at)
	case map[string]any:
		file, _ := up["file"].(string)
		ref, _ := up["service"].(string)
		if file == "" {
			return r.base(d, services, name, ref, at)
		}
		other, why := r.inside(base(name), file)
		if at, isAbs := r.inProject(file); isAbs {
			other, why = at, "" // compose-go made it absolute
		}
		if why != "" {
			r.report(r.docs[name], problem.Pos{}, "extends: file %q %s", file, why)
			return ""
		}
		return r.base(d, services, other, ref, at)
	}
	r.report(d, place(at), "extends: service of %s has an extends: that is neither a name nor a mapping", name)
	return ""
}

// part is the model of a file whose services are extended: each as it is written, with paths made absolute.
// The file may be one of the project too, so this works on a reading of its own.
func (r *reading) part(name string) map[string]any {
	shared := r.parse(name)
	if shared == nil {
		return nil
	}
	r.travels[name] = true
	d := &doc{name: name, data: shared.data}
	if !r.decode(d) {
		return nil
	}
	d.prune()
	remove(d.root, "include")

	if seen := r.model(d, asWritten); seen == nil || r.homes(d, seen) {
		return nil
	}
	return r.model(d, asWritten, func(o *loader.Options) { o.ResolvePaths = true })
}

// includes writes what include: names into the file.
func (r *reading) includes(d *doc, from string) bool {
	k, list := child(d.root, "include")
	if list == nil {
		return true
	}
	if list = plainNode(list); list.Kind != yaml.SequenceNode {
		r.report(d, place(k), "include: want a list of files")
		return false
	}

	remove(d.root, "include")
	d.changed = true
	for _, entry := range list.Content {
		if !r.include(d, from, plainNode(entry)) {
			return false
		}
	}
	return true
}

// include writes what one entry of include: comes to into the file.
func (r *reading) include(d *doc, from string, entry *yaml.Node) bool {
	paths, env, workdir := words(entry), []*yaml.Node(nil), (*yaml.Node)(nil)
	if entry.Kind == yaml.MappingNode {
		_, p := child(entry, "path")
		_, e := child(entry, "env_file")
		_, workdir = child(entry, "project_directory")
		paths, env = words(p), words(e)
	}
	if len(paths) == 0 {
		r.report(d, place(entry), "include: an entry without path:")
		return false
	}

	names, ok := r.allInside(d, from, "include", paths)
	envs, envsOK := r.allInside(d, from, "include: env_file", env)
	if !ok || !envsOK {
		return false
	}
	dir := base(names[0])
	if workdir != nil {
		dirs, ok := r.allInside(d, from, "include: project_directory", []*yaml.Node{workdir})
		if !ok {
			return false
		}
		dir = dirs[0]
	}

	model := r.included(d, place(entry), names, envs, dir)
	return model != nil && r.importAll(d, place(entry), model)
}

// allInside are the names of files that a compose file names by the paths of nodes.
func (r *reading) allInside(d *doc, from, what string, nodes []*yaml.Node) (names []string, ok bool) {
	for _, n := range nodes {
		name, why := r.inside(from, n.Value)
		if why != "" {
			r.report(d, place(n), "%s: %q %s", what, n.Value, why)
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// included is the model of the files of one entry of include:.
func (r *reading) included(d *doc, at problem.Pos, names, envs []string, dir string) map[string]any {
	extra, asked := r.values.extra, r.values.asked
	defer func() { r.values.extra = extra }()
	r.values.extra = maps.Clone(extra)
	for _, name := range envs {
		vars, err := r.envFile(name, r.values.value)
		if err != nil {
			r.report(d, at, "include: env_file: %v", err)
			return nil
		}
		r.travels[name], r.envRead[name] = true, true
		if r.values.extra == nil {
			r.values.extra = map[string]string{}
		}
		maps.Copy(r.values.extra, vars)
	}

	r.values.asked = nil
	details := types.ConfigDetails{WorkingDir: r.dir(dir), Environment: r.values.known()}
	for _, name := range names {
		part := r.prepare(name, dir)
		if part == nil {
			return nil
		}
		r.travels[name] = true
		details.ConfigFiles = append(details.ConfigFiles, part.config())
	}

	model, err := loader.LoadModelWithContext(context.Background(), details, r.options, func(o *loader.Options) {
		o.SkipNormalization, o.SkipConsistencyCheck = true, true
	})
	if err != nil {
		r.fail(names, err)
		return nil
	}
	dropBases(model)

	if open := slices.Sorted(maps.Keys(r.values.asked)); len(open) > 0 && len(envs) == 0 {
		r.report(d, at, "include: on the host compose would look for %s in a file .env beside %s: set it in env: or settings:, or write env_file: here", open[0], names[0])
	}
	for name := range asked {
		r.values.note(&r.values.asked, name)
	}
	return model
}

// importAll writes the services and resources of a model into the file.
func (r *reading) importAll(d *doc, at problem.Pos, model map[string]any) bool {
	for _, kind := range []string{"jobs", "models"} {
		if _, has := model[kind]; has {
			r.report(d, at, "include: %s: of the included file is not supported: bellhop runs the containers of services alone", kind)
			return false
		}
	}

	for _, kind := range []string{"services", "volumes", "networks", "secrets", "configs"} {
		found, _ := model[kind].(map[string]any)
		if len(found) == 0 {
			continue
		}

		_, into := child(d.root, kind)
		if into = plainNode(into); into == nil || into.Kind != yaml.MappingNode {
			remove(d.root, kind)
			into = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			d.root.Content = append(d.root.Content, scalar(kind), into)
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			if _, twice := child(into, name); twice != nil {
				r.report(d, at, "include: %s.%s is in this file and in an included one: keep one of them", kind, name)
				return false
			}
			into.Content = append(into.Content, scalar(name), nodeOf(found[name]))
		}
	}
	return true
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// nodeOf is a value of a model as a file has it: variables are filled in, so each $ is a plain one.
func nodeOf(v any) *yaml.Node {
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		return scalar("")
	}
	plainDollars(n)
	return n
}

func plainDollars(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	if n.Kind == yaml.ScalarNode {
		n.Value = strings.ReplaceAll(n.Value, "$", "$$")
	}
	for _, c := range n.Content {
		plainDollars(c)
	}
}
