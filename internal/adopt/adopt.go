// Package adopt makes a service of a config repo from a compose project that runs on a host.
//
// Labels of the containers say which project it is and which files it was started from. Read fetches those
// files, and the files that they name; data stays where it is. Values of env files are split: what is secret is
// given to be sealed, and never part of a file. The service renders to the same definitions as the
// containers have, so the first deploy makes none anew.
package adopt

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/goccy/go-yaml"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
)

// Options say what is adopted, and as what.
type Options struct {
	Dir     string // the project's directory, as docker compose knows it
	From    string // where the files are, if not there: Portainer keeps them in a volume
	Service string // its name; "" is the project's
	// IsSecret says whether a variable of an env file is secret. It is asked once for each, in order.
	IsSecret func(variable string) (bool, error)
}

// A Stack is a service that was made of a project.
type Stack struct {
	Service string
	Project string
	Files   map[string]File   // of its folder, by path below it
	Secrets map[string][]byte // values to be sealed, by name below secrets/; the caller clears them
	Left    []string          // files that the project names and that stay on the host as they are, sorted
}

// A File is one of the folder.
type File struct {
	Data []byte
	Mode fs.FileMode
}

// A reading is one Read at work.
type reading struct {
	Options
	ctx   context.Context
	host  *Host
	out   *Stack
	run   running
	names map[string]string // of the folder, with their modes
	files map[string][]byte // that were read
	bytes int               // of them
	text  strings.Builder   // of all that compose parses
}

// ValuesFile has the plain variables of a service.
const ValuesFile = "values.env"

// Read reads a project from a host.
func Read(ctx context.Context, host *Host, o Options) (*Stack, error) {
	o.Dir = path.Clean(o.Dir)
	if o.From == "" {
		o.From = o.Dir
	}
	r := &reading{Options: o, ctx: ctx, host: host, files: map[string][]byte{}}
	r.out = &Stack{Files: map[string]File{}, Secrets: map[string][]byte{}}

	var err error
	if r.run, err = host.running(ctx, o.Dir); err != nil {
		return nil, err
	}
	if r.names, err = host.names(ctx, r.From); err != nil {
		return nil, err
	}
	r.out.Project, r.out.Service = r.run.project, r.Service
	if r.Service == "" {
		r.out.Service = r.run.project
	}

	composeFiles, err := r.within(r.run.files)
	if err != nil {
		return nil, err
	}
	env, err := r.envFiles()
	if err != nil {
		return nil, err
	}
	result, err := r.parse(composeFiles, env, "")
	if err != nil {
		return nil, err
	}
	if err := r.take(&result, composeFiles, env); err != nil {
		return nil, err
	}
	return r.out, r.finish(&result, composeFiles, env)
}

// within are files of the project as names below its directory.
func (r *reading) within(files []string) (names []string, err error) {
	for _, f := range files {
		name, ok := within(f, r.Dir, r.From)
		if _, there := r.names[name]; !ok || !there {
			return nil, fmt.Errorf("the project %s was started from %s, which is not in %s on %s: if the file is in another folder of that host, as with Portainer, name that with --from", r.run.project, f, r.From, r.host.Name)
		}
		names = append(names, name)
	}
	return names, nil
}

// envFiles are the files that variables came from.
func (r *reading) envFiles() ([]string, error) {
	if len(r.run.env) > 0 {
		return r.within(r.run.env)
	}
	if _, there := r.names[".env"]; there {
		return []string{".env"}, nil
	}
	return nil, nil
}

func (r *reading) read(name string) ([]byte, error) {
	if data, has := r.files[name]; has {
		return data, nil
	}
	if _, there := r.names[name]; !there {
		return nil, fs.ErrNotExist
	}
	data, err := r.host.read(r.ctx, r.From+"/"+name)
	if err != nil {
		return nil, err
	}
	if r.bytes += len(data); r.bytes > maxBytes {
		return nil, fmt.Errorf("the files that %s of %s names are more than %d MiB: move its data to a folder elsewhere, or adopt it by hand", r.run.project, r.host.Name, maxBytes>>20)
	}
	r.files[name] = data
	return data, nil
}

// parse reads the compose files as a deployer would. key is that of a secret env file; "" for none.
func (r *reading) parse(files, env []string, key string) (compose.Result, error) {
	src := compose.Source{Folder: r.From, Service: r.out.Service, Project: r.run.project, Dir: r.Dir, Files: files, Env: env, Names: slices.Sorted(maps.Keys(r.names))}
	if src.EnvKey = key; key != "" {
		src.Keys = []string{key}
	}
	src.Sum = func(string) string { return "" }
	src.Read = func(name string) ([]byte, error) {
		data, err := r.read(name)
		r.text.Write(data)
		return data, err
	}

	result := compose.Read(src)
	for _, p := range result.Problems {
		if !p.Warning {
			return result, result.Problems.Sort()
		}
	}
	return result, nil
}

// take brings the files that the project names. A mounted folder holds data, as a rule, and stays.
func (r *reading) take(result *compose.Result, composeFiles, env []string) error {
	secret, inputs := r.secretFiles(composeFiles), map[string]bool{}
	for _, c := range result.Project.Containers {
		for _, p := range c.Inputs {
			name, _ := within(p, r.Dir)
			inputs[name] = true
		}
	}

	parsed := slices.Collect(maps.Keys(r.files))
	for _, name := range result.Travels {
		isNamed := slices.Contains(parsed, name) || inputs[name] || strings.Contains(r.text.String(), name)
		switch {
		case slices.Contains(env, name):
			continue // split later
		case !isNamed:
			r.out.Left = append(r.out.Left, name)
			continue
		}

		data, err := r.read(name)
		isText := err == nil && utf8.Valid(data)
		switch {
		case err != nil || !isText && !inputs[name]:
			r.out.Left = append(r.out.Left, name)
		case slices.Contains(secret, name):
			key := r.out.Service + "-" + strings.Trim(unusual.ReplaceAllString(path.Base(name), "-"), "-.")
			r.out.Secrets[key] = data
			r.out.Files[name+".tmpl"] = File{[]byte(`{{ key "` + key + `" }}`), 0o644}
		default:
			r.out.Files[name] = File{data, r.mode(name)}
		}
	}
	return nil
}

var unusual = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func (r *reading) mode(name string) fs.FileMode {
	if m := r.names[name]; m != "" && (m[0]-'0')&1 != 0 { // its owner may run it
		return 0o755
	}
	return 0o644
}

// secretFiles are the files that secrets: of the compose files name.
func (r *reading) secretFiles(composeFiles []string) (names []string) {
	for _, f := range composeFiles {
		var doc struct {
			Secrets map[string]struct {
				File string `yaml:"file"`
			} `yaml:"secrets"`
		}
		if yaml.Unmarshal(r.files[f], &doc) != nil {
			continue // compose-go read it: it has a shape of its own
		}
		for _, s := range doc.Secrets {
			names = append(names, path.Clean(s.File))
		}
	}
	return names
}

// finish splits the variables, and writes service.yaml.
func (r *reading) finish(result *compose.Result, composeFiles, env []string) error {
	key := r.out.Service + "-env"
	values, plain, err := r.split(env)
	if err != nil {
		return err
	}
	isInput := func(name string) bool {
		return slices.ContainsFunc(result.Project.Containers, func(c bundle.Container) bool { return slices.Contains(c.Inputs, r.Dir+"/"+name) })
	}
	whole := slices.ContainsFunc(env, isInput)

	var from []string
	switch {
	case len(env) == 0:
	case len(values) == 0: // nothing is secret: they stay as they are
		for _, name := range env {
			r.out.Files[name] = File{r.files[name], 0o644}
		}
		from = env
	case whole && len(env) > 1:
		return fmt.Errorf("a container reads one of %s by env_file: and some of it is secret: join these files on %s first", strings.Join(env, ", "), r.host.Name)
	case whole:
		if err := r.envFileByKey(result, env[0], key); err != nil {
			return err
		}
		r.out.Secrets[r.out.Service+".env"] = r.files[env[0]]
		from = []string{"secrets/" + r.out.Service + ".env.age"}
	default:
		r.out.Secrets[r.out.Service+".env"] = []byte(values)
		from = []string{"secrets/" + r.out.Service + ".env.age"}
		if plain != "" {
			r.out.Files[ValuesFile] = File{[]byte(plain), 0o644}
			from = append(from, ValuesFile)
		}
	}

	r.out.Files["service.yaml"] = File{[]byte(r.serviceFile(composeFiles, from)), 0o644}
	return nil
}

// split asks for each variable whether it is secret, and writes both kinds as env files. Values are
// written as they come out, so that no line needs another.
func (r *reading) split(env []string) (secret, plain string, err error) {
	all := map[string]string{}
	for _, name := range env {
		data, err := r.read(name)
		if err != nil {
			return "", "", err
		}
		vars, err := dotenv.ParseWithLookup(strings.NewReader(string(data)), func(name string) (string, bool) { v, ok := all[name]; return v, ok })
		if err != nil {
			return "", "", fmt.Errorf("%s on %s is no env file that docker compose reads", name, r.host.Name) // the error quotes values
		}
		maps.Copy(all, vars)
	}

	for _, name := range slices.Sorted(maps.Keys(all)) {
		isSecret, err := r.IsSecret(name)
		if err != nil {
			return "", "", err
		}
		line := name + "=" + compose.Quote(all[name]) + "\n"
		if isSecret {
			secret += line
		} else {
			plain += line
		}
	}
	return secret, plain, nil
}

// envFileByKey has containers read their env_file from the key. The line is changed as text, and believed only
// when the same containers are read to take the key.
func (r *reading) envFileByKey(was *compose.Result, name, key string) error {
	at := regexp.MustCompile(`(env_file:[ \t]*\[?[ \t]*|-[ \t]+|path:[ \t]*)(["']?)(\./)?` + regexp.QuoteMeta(name) + `(["']?[ \t]*\]?)([ \t]*(#.*)?\r?(\n|$))`)
	for f, file := range r.out.Files {
		if r.files[f] != nil && (path.Ext(f) == ".yaml" || path.Ext(f) == ".yml") {
			file.Data = at.ReplaceAll(file.Data, []byte("${1}${2}"+bundle.KeyDir+"/"+key+"${4}${5}"))
			r.out.Files[f], r.files[f] = file, file.Data
		}
	}

	files, err := r.within(r.run.files)
	if err != nil {
		return err
	}
	now, err := r.parse(files, nil, key)
	for _, c := range was.Project.Containers {
		o := now.Project.ContainerOf(c.Name)
		takesKey := o != nil && slices.Contains(o.EnvKeys, key) && !slices.Contains(o.Inputs, r.Dir+"/"+name)
		if slices.Contains(c.Inputs, r.Dir+"/"+name) && (err != nil || !takesKey) {
			return fmt.Errorf("%s reads %s by env_file:, and some of it is secret: have it read %s/%s, in a way that is simple to change, such as env_file: %s in a line of its own", c.Name, name, bundle.KeyDir, key, name)
		}
	}
	return nil
}

// serviceFile is service.yaml.
func (r *reading) serviceFile(composeFiles, env []string) string {
	var fields []string
	if r.Dir != bundle.StackDir+"/"+r.out.Service {
		fields = append(fields, "dir: "+r.Dir)
	}
	if r.run.project != r.out.Service {
		fields = append(fields, "project: "+r.run.project)
	}
	if len(composeFiles) > 1 || !slices.Contains(compose.Names, composeFiles[0]) {
		fields = append(fields, "files: ["+strings.Join(composeFiles, ", ")+"]")
	}
	if len(env) > 0 {
		fields = append(fields, "env: ["+strings.Join(env, ", ")+"]")
	}
	if len(fields) == 0 {
		return "compose: { project: " + r.run.project + " }\n"
	}
	return "compose: { " + strings.Join(fields, ", ") + " }\n"
}
