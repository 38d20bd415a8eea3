package compose

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"bellhop/internal/bundle"
)

// fill says what the host is asked for.
func (r *reading) fill() {
	p := &r.out.Project
	p.Project, p.Dir = r.Project, r.Dir

	for _, name := range r.Files {
		p.Files = append(p.Files, r.dir(name))
	}
	for _, name := range r.Env {
		p.Env = append(p.Env, r.dir(name))
	}

	for _, name := range r.project.ServiceNames() {
		s := r.project.Services[name]
		p.Containers = append(p.Containers, r.container(&s))
	}

	slices.SortFunc(p.Containers, func(a, b bundle.Container) int { return strings.Compare(a.Name, b.Name) })

	for _, key := range sortedKeys(r.project.Volumes) {
		v := r.project.Volumes[key]
		out := bundle.ComposeVolume{Key: key, Name: v.Name, External: bool(v.External)}
		v.Name = ""
		out.Definition = digestOf(v)
		p.Volumes = append(p.Volumes, out)
	}

	for _, key := range sortedKeys(r.project.Networks) {
		n := r.project.Networks[key]
		out := bundle.ComposeVolume{Key: key, Name: n.Name, External: bool(n.External)}
		n.Name = ""
		out.Definition = digestOf(n)
		p.Networks = append(p.Networks, out)
	}

	r.out.Override, r.out.Secrets = r.override(), secretFiles(r)
}

// container is one service of the compose file.
func (r *reading) container(s *types.ServiceConfig) bundle.Container {
	c := bundle.Container{Name: s.Name, Image: s.Image, Pull: pullPolicy(s.PullPolicy), Build: s.Build != nil}
	c.Check = s.HealthCheck != nil && !s.HealthCheck.Disable
	c.Once = endsWell(s)
	if n := s.GetScale(); n == 0 || r.idle[s.Name] {
		c.Idle = true
	} else if n > 1 {
		c.Scale = n
	}

	for _, mode := range []string{s.NetworkMode, s.Ipc, s.Pid} {
		if of, ok := strings.CutPrefix(mode, "service:"); ok && c.NetworkOf == "" {
			c.NetworkOf = of
		}
	}

	for on, how := range s.DependsOn {
		if how.Restart {
			c.RestartWith = append(c.RestartWith, on)
		}
	}

	r.mounts(&c, s)
	r.build(s)
	c.Inputs = r.inputs[s.Name]
	c.Definition = r.definition(&c, s)

	for _, list := range []*[]string{&c.Files, &c.Inputs, &c.Keys, &c.EnvKeys, &c.Volumes, &c.RestartWith} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
		if len(*list) == 0 {
			*list = nil
		}
	}

	return c
}

// endsWell says whether the container may end by itself with 0.
func endsWell(s *types.ServiceConfig) bool {
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		return s.Deploy.RestartPolicy.Condition == "none" || s.Deploy.RestartPolicy.Condition == "on-failure"
	}
	return s.Restart == "" || s.Restart == "no" || strings.HasPrefix(s.Restart, "on-failure")
}

// pullPolicy is a policy as the manifest has it: "" for missing.
func pullPolicy(p string) string {
	if p == types.PullPolicyIfNotPresent || p == types.PullPolicyMissing {
		return ""
	}
	return p
}

// mounts notes what of the bundle a container sees.
func (r *reading) mounts(c *bundle.Container, s *types.ServiceConfig) {
	for _, v := range s.Volumes {
		switch {
		case v.Type == types.VolumeTypeBind:
			r.mount(c, v.Source)
		case v.Type == types.VolumeTypeVolume && v.Source != "":
			c.Volumes = append(c.Volumes, v.Source+":"+v.Target)
		}
	}

	for _, use := range s.Configs {
		r.mount(c, r.project.Configs[use.Source].File)
	}
	for _, use := range s.Secrets {
		r.mount(c, r.project.Secrets[use.Source].File)
	}

	for _, f := range s.EnvFiles {
		if key, ok := r.keyAt(f.Path); ok {
			c.EnvKeys = append(c.EnvKeys, key)
		}
	}
}

// mount notes one path of the host that a container sees: a file, or all of a folder.
func (r *reading) mount(c *bundle.Container, source string) {
	if source == "" {
		return
	}

	source = path.Clean(source)
	for _, key := range r.Keys {
		at := bundle.KeyDir + "/" + key
		if at == source || source == bundle.KeyDir {
			c.Keys = append(c.Keys, key)
		}
	}

	for _, p := range r.Placed {
		if below(p, source) {
			c.Files = append(c.Files, p)
		}
	}

	within, ok := r.inProject(source)
	if !ok {
		return
	}

	for _, name := range r.below(within) {
		r.travels[name] = true
		if key := r.keyOf(name); key != "" {
			c.Keys = append(c.Keys, key)
		} else {
			c.Files = append(c.Files, r.dir(name))
		}
	}
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// below are the files of the service's folder that a name means: itself, or all of a folder.
func (r *reading) below(name string) []string {
	var out []string
	for _, n := range r.Names {
		if name == "." || below(n, name) {
			out = append(out, n)
		}
	}

	return out
}

// secretFiles are the files that secrets: names: in the project as it comes out, and in each file as it is
// written, where another may have replaced it. What a variable hides counts by the last part of its path.
func secretFiles(r *reading) []string {
	found := map[string]bool{}
	take := func(name string) {
		for _, n := range r.below(name) {
			found[n] = true
		}
	}

	for _, o := range r.project.Secrets {
		if name, ok := r.inProject(o.File); ok && o.File != "" {
			take(name)
		}
	}

	for _, d := range r.docs {
		_, secrets := child(d.root, "secrets")
		for _, s := range mapped(secrets) {
			_, file := child(s.value, "file")
			if file = plainNode(file); file != nil && file.Value != "" {
				mayMean(r, d, file.Value, take)
			}
		}
	}

	return slices.Sorted(maps.Keys(found))
}

// mayMean takes what a path that stands in d may mean.
func mayMean(r *reading, d *doc, file string, take func(name string)) {
	if name, ok := r.inProject(file); ok {
		take(name)
	}
	take(path.Clean(file))
	take(path.Join(base(d.name), file))

	for _, n := range r.Names {
		if strings.Contains(file, "$") && path.Base(n) == path.Base(file) {
			take(n)
		}
	}
}

// build notes the files that a service is built from.
func (r *reading) build(s *types.ServiceConfig) {
	if s.Build == nil {
		return
	}

	contexts := []string{s.Build.Context}
	for _, c := range s.Build.AdditionalContexts {
		contexts = append(contexts, c)
	}

	for _, at := range contexts {
		name, ok := r.inProject(at)
		if !ok {
			continue
		}
		for _, file := range r.below(name) {
			r.travels[file] = true
			r.inputs[s.Name] = append(r.inputs[s.Name], r.dir(file))
		}
	}
}

// definition is the digest of what compose would make a new container for, if it changed: the service with
// its environment and labels, less what compose leaves out itself. What is built counts by the bytes of its
// files, and the values of a secret env file by their names.
func (r *reading) definition(c *bundle.Container, s *types.ServiceConfig) string {
	d := *s
	d.PullPolicy, d.Scale, d.Profiles, d.Build, d.Develop, d.Extends = "", nil, nil, nil, nil, nil
	d.EnvFiles, d.LabelFiles, d.DependsOn = nil, nil, nil
	if s.Deploy != nil {
		deploy := *s.Deploy
		deploy.Replicas = nil
		d.Deploy = &deploy
	}

	var extra []any
	for _, use := range s.Configs {
		o := r.project.Configs[use.Source]
		extra = append(extra, o.File, o.Content, o.Environment)
	}
	for _, use := range s.Secrets {
		o := r.project.Secrets[use.Source]
		extra = append(extra, o.File, o.Environment)
	}

	if s.Build != nil {
		extra = append(extra, s.Build)
		for _, at := range r.inputs[s.Name] {
			if name, ok := r.inProject(at); ok {
				extra = append(extra, name, r.Sum(name))
			}
		}
	}

	depends := map[string]string{}
	for on, how := range s.DependsOn {
		depends[on] = how.Condition
	}

	text, err := json.Marshal([]any{d, depends, extra})
	if err != nil {
		text = []byte(err.Error())
	}
	if strings.Contains(string(text), secretMark) && r.EnvKey != "" {
		c.EnvKeys = append(c.EnvKeys, r.EnvKey)
	}

	return bundle.DigestBytes(text)[:32]
}

func digestOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(err.Error())
	}
	return bundle.DigestBytes(text)[:32]
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}

	slices.Sort(keys)
	return keys
}
