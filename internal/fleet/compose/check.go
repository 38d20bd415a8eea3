package compose

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
)

// serviceName is what hosts take: the names become arguments of docker compose.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// check reports what would not work on a host, or not as it looks.
func (r *reading) check() {
	r.checkNames()
	r.checkTop()

	for _, name := range r.project.ServiceNames() {
		s := r.project.Services[name]
		r.resolve(&s)
		r.project.Services[name] = s
		r.checkImage(&s)
		r.checkPlaces(&s)
		r.checkKinds(&s)
	}

	for _, kind := range []string{"configs", "secrets"} {
		r.checkObjects(kind)
	}
}

// checkNames reports a name of the project that is not the one in force, and names that compose 2.26 can't
// read.
func (r *reading) checkNames() {
	for _, file := range r.Files {
		d := r.docs[file]
		if k, v := child(d.root, "name"); v != nil && v.Value != r.Project {
			r.report(d, place(k), "name: %s: the project is called %s; leave this out, or write compose: { project: %s } in service.yaml", v.Value, r.Project, v.Value)
		}
	}

	for _, name := range r.project.ServiceNames() {
		if !serviceName.MatchString(name) {
			d, at := r.find([]string{"services", name})
			r.report(d, at, "services.%s: want a name of at most 128 characters that begins with a letter or a digit: docker compose may take this one for an option", name)
		}
	}

	for _, key := range sortedKeys(r.project.Volumes) {
		if len(key) == 1 {
			d, at := r.find([]string{"volumes", key})
			r.report(d, at, "volume %s: compose takes a name of one letter for a drive of Windows; give it a longer one", key)
		}
	}
}

// checkImage reports an image that nobody can pull, and one that may be another tomorrow.
func (r *reading) checkImage(s *types.ServiceConfig) {
	d, at := r.find([]string{"services", s.Name, "image"})
	switch s.PullPolicy {
	case "", types.PullPolicyAlways, types.PullPolicyNever, types.PullPolicyMissing, types.PullPolicyIfNotPresent, types.PullPolicyBuild:
	default:
		d, at := r.find([]string{"services", s.Name, "pull_policy"})
		r.report(d, at, "services.%s.pull_policy %q: want missing, always, never or build", s.Name, s.PullPolicy)
	}

	if s.Image == "" {
		return
	}
	ref, err := reference.ParseNormalizedNamed(s.Image)
	if err != nil {
		r.report(d, at, "services.%s.image %q: %v", s.Name, s.Image, err)
		return
	}
	if _, pinned := ref.(reference.Digested); pinned || s.Build != nil {
		return
	}

	p := problem.At(path.Join(r.Folder, d.name), d.data, at, "image %s has no digest: another image may come under that name tomorrow, and on another host; write %s@sha256:…, which Renovate keeps up to date", s.Image, s.Image)
	p.Warning = true
	r.out.Unpinned = append(r.out.Unpinned, p)
}

// checkPlaces reports mounts and build contexts that can't be what was meant.
func (r *reading) checkPlaces(s *types.ServiceConfig) {
	for i, v := range s.Volumes {
		if v.Type == types.VolumeTypeBind {
			d, at := r.find([]string{"services", s.Name, "volumes", strconv.Itoa(i)})
			r.checkSource(d, at, fmt.Sprintf("services.%s.volumes", s.Name), v.Source, true)
		}
	}

	for _, f := range s.EnvFiles {
		if key, ok := r.keyAt(f.Path); ok {
			d, at := r.find([]string{"services", s.Name, "env_file"})
			r.warn(d, at, "services.%s.env_file: the values of key %s stand in docker inspect: mount it as a secret if the program can read a file", s.Name, key)
		}
	}

	if s.Build == nil {
		return
	}

	contexts := []string{s.Build.Context}
	for _, key := range sortedKeys(s.Build.AdditionalContexts) {
		contexts = append(contexts, s.Build.AdditionalContexts[key])
	}

	d, at := r.find([]string{"services", s.Name, "build"})
	for _, c := range contexts {
		name, ok := r.inProject(c)
		switch {
		case isRemote(c):
			r.report(d, at, "services.%s.build: the context %s is not a folder: bellhop fetches nothing; put it into %s", s.Name, c, r.Folder)
		case !ok && path.IsAbs(c):
			r.report(d, at, "services.%s.build: the context %s is outside of %s: put it there", s.Name, c, r.Folder)
		case ok && len(r.below(name)) == 0:
			r.report(d, at, "services.%s.build: there is nothing below %s/%s", s.Name, r.Folder, name)
		}
	}
}

// checkSource reports a path of the host that a container is to see.
func (r *reading) checkSource(d *doc, at problem.Pos, field, source string, mayBeMade bool) {
	source = path.Clean(source)
	if name, inKeys := strings.CutPrefix(source, bundle.KeyDir+"/"); inKeys {
		if _, ok := r.keyAt(source); !ok && !strings.HasPrefix(name, "files/") {
			r.report(d, at, "%s: the service has no key %s: name it under keys: in service.yaml%s", field, name, problem.DidYouMean(name, r.Keys))
		}
		return
	}

	name, ok := r.inProject(source)
	if !ok || name == "." {
		return
	}

	switch isThere := len(r.below(name)) > 0; {
	case below(name, "files"):
		r.report(d, at, "%s: what is below files/ is installed at the root of the host: name %s, or move the file to another folder", field, strings.TrimPrefix(name, "files"))
	case !isThere && !mayBeMade:
		r.report(d, at, "%s: there is no %s in %s", field, name, r.Folder)
	case !isThere && path.Ext(name) != "" && !strings.HasPrefix(path.Base(name), "."):
		r.warn(d, at, "%s: there is no %s in %s: if the host has none either, Docker makes a folder of that name", field, name, r.Folder)
	}
}

// checkKinds reports what the tested compose does not know, or what leaves bellhop's hands.
func (r *reading) checkKinds(s *types.ServiceConfig) {
	if s.Provider != nil {
		d, at := r.find([]string{"services", s.Name, "provider"})
		r.report(d, at, "services.%s.provider: a program of the host would act here; bellhop runs containers alone", s.Name)
	}

	// Their images would be pulled or run without anybody having looked at them.
	if len(s.PreStart) > 0 {
		d, at := r.find([]string{"services", s.Name, "pre_start"})
		r.report(d, at, "services.%s.pre_start: is not supported: write a service that ends, and depends_on: with condition: service_completed_successfully", s.Name)
	}
	if len(s.Models) > 0 {
		d, at := r.find([]string{"services", s.Name, "models"})
		r.report(d, at, "services.%s.models: is not supported: bellhop runs containers alone", s.Name)
	}

	for i, v := range s.Volumes {
		if v.Type == types.VolumeTypeImage {
			d, at := r.find([]string{"services", s.Name, "volumes", strconv.Itoa(i)})
			r.report(d, at, "services.%s.volumes: type: image is not supported: copy what is needed into an image of its own", s.Name)
		}
	}
}

// checkTop reports parts of the project beside services that would bring images by themselves.
func (r *reading) checkTop() {
	for _, name := range sortedKeys(r.project.AllJobs()) {
		d, at := r.find([]string{"jobs", name})
		r.report(d, at, "jobs.%s: is not supported: write a service, with restart: \"no\" if it ends", name)
	}
	for _, name := range sortedKeys(r.project.Models) {
		d, at := r.find([]string{"models", name})
		r.report(d, at, "models.%s: is not supported: bellhop runs containers alone", name)
	}
}

// checkObjects reports configs or secrets whose file is nowhere.
func (r *reading) checkObjects(kind string) {
	objects := map[string]types.FileObjectConfig{}
	for key, o := range r.project.Configs {
		if kind == "configs" {
			objects[key] = types.FileObjectConfig(o)
		}
	}

	for key, o := range r.project.Secrets {
		if kind == "secrets" {
			objects[key] = types.FileObjectConfig(o)
		}
	}

	for _, key := range sortedKeys(objects) {
		d, at := r.find([]string{kind, key, "file"})
		o := objects[key]
		switch {
		case bool(o.External):
			r.report(d, at, "%s.%s: external: only Docker Swarm has those; name a file, or a key: file: %s/NAME", kind, key, bundle.KeyDir)
		case o.File != "":
			r.checkSource(d, at, kind+"."+key, o.File, false)
		default:
			r.checkInline(kind, key, o)
		}
	}
}

// checkInline reports an inline config or secret that takes a value of the secret env file, as what it holds is
// known on the host alone, so a container could not be told to be made anew for another value; and one that a container
// takes from a variable which nothing sets, as compose then starts none.
func (r *reading) checkInline(kind, key string, o types.FileObjectConfig) {
	if o.Environment != "" && !r.values.sets(o.Environment) && takes(r, kind, key) {
		d, at := r.find([]string{kind, key, "environment"})
		r.report(d, at, "%s.%s.environment: nothing sets %s: none comes from the environment of a process; set it in env: or settings:, or name a key, file: %s/NAME", kind, key, o.Environment, bundle.KeyDir)
		return
	}

	text, _ := r.values.inlineText(o)
	if !strings.Contains(text, secretMark) {
		return
	}

	field := "content"
	if o.Environment != "" {
		field = "environment"
	}
	d, at := r.find([]string{kind, key, field})
	r.report(d, at, "%s.%s.%s takes a value of the secret env file, and a new one would not reach the container: name a key, file: %s/NAME", kind, key, field, bundle.KeyDir)
}

// sets says whether a variable has a value.
func (v *values) sets(name string) bool {
	_, is := v.value(name)
	return is
}

// takes says whether a container that is started has that config or secret.
func takes(r *reading, kind, key string) bool {
	for name, s := range r.project.Services {
		if r.idle[name] {
			continue
		}
		for _, c := range s.Configs {
			if kind == "configs" && c.Source == key {
				return true
			}
		}
		for _, c := range s.Secrets {
			if kind == "secrets" && c.Source == key {
				return true
			}
		}
	}
	return false
}
