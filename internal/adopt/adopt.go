// Package adopt makes a service of a config repo from a compose project that runs on a host.
//
// Labels of the containers say which project it is and which files it was started from. Read fetches those
// files, and the files that they name; data stays where it is. Values of .env are split: what is secret is
// given to be sealed, and never part of a file. Other env files with a secret are sealed whole, and so are those of
// secrets:; what can't be told apart counts as secret, and what can't be sealed is refused. A password that stands in a
// compose file itself becomes a variable. The service
// renders to the same definitions as the containers have, so the first deploy makes none anew.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
)

// Options say what is adopted, and as what.
type Options struct {
	Dir     string // the project's directory, as docker compose knows it
	From    string // where the files are, if not there: Portainer keeps them in a volume
	Service string // its name; "" is the project's
	// IsSecret says whether the value of a variable is secret, or a file that is likely so. It is asked once for
	// each; likely is what its name says.
	IsSecret func(name string, likely bool) (bool, error)
}

// A Stack is a service that was made of a project.
type Stack struct {
	Service string
	Project string
	Files   map[string]File   // of its folder, by path below it
	Secrets map[string][]byte // values to be sealed, by name below secrets/; the caller clears them
	Left    []string          // files that the project names and that stay on the host as they are, sorted

	// Compared says that the host's compose was asked. Differ are the containers that were started by another definition
	// than the files have now, sorted: the first deploy makes those anew, and no others.
	Compared bool
	Differ   []string
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
	known map[string]bool   // what was said of variables: whether they are secret
	keys  []string          // that containers take in the place of an env file
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
	r := &reading{Options: o, ctx: ctx, host: host, files: map[string][]byte{}, known: map[string]bool{}}
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
	if err := r.compare(&result.Project); err != nil {
		return nil, err
	}
	if env, err = r.moveLiterals(&result, composeFiles, env); err != nil {
		return nil, err
	}
	if err := r.take(&result, env); err != nil {
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
	src.Keys = slices.Clone(r.keys)
	if src.EnvKey = key; key != "" {
		src.Keys = append(src.Keys, key)
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
func (r *reading) take(result *compose.Result, env []string) error {
	inputs := map[string]bool{}
	for _, c := range result.Project.Containers {
		for _, p := range c.Inputs {
			name, _ := within(p, r.Dir)
			inputs[name] = true
		}
	}

	var ofVariables []string
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
		if err != nil && !errors.Is(err, errLarge) {
			return err
		}
		isText := err == nil && utf8.Valid(data)
		switch {
		case err != nil || !isText && !inputs[name]:
			r.out.Left = append(r.out.Left, name)
		case slices.Contains(result.Secrets, name):
			err = r.sealFile(name)
		case slices.Contains(result.EnvFiles, name) || isEnvName(name):
			ofVariables = append(ofVariables, name)
		default:
			err = r.takeFile(result, name, data)
		}
		if err != nil && !errors.Is(err, errLarge) {
			return err
		}
	}

	return r.takeVariables(result, env, ofVariables)
}

// takeFile brings a file as it is, or sealed.
func (r *reading) takeFile(result *compose.Result, name string, data []byte) error {
	is, err := r.secretFile(name, data)
	switch {
	case err != nil:
		return err
	case is:
		return r.sealMounted(result, name)
	}

	r.out.Files[name] = File{data, r.mode(name)}
	return nil
}

// sealFile has a file be a template of a key that holds it.
func (r *reading) sealFile(name string) error {
	key, err := r.seal(name)
	if err == nil {
		r.out.Files[name+".tmpl"] = File{[]byte(`{{ key "` + key + `" }}`), 0o644}
	}
	return err
}

// seal has a file be a secret, and gives its name, which is that of the key too.
func (r *reading) seal(name string) (key string, err error) {
	key = r.out.Service + "-" + strings.Trim(unusual.ReplaceAllString(name, "-"), "-.")
	if _, twice := r.out.Secrets[key]; twice || key == r.out.Service+"-env" || key == r.out.Service+".env" {
		return "", fmt.Errorf("%s on %s is to be sealed as secrets/%s.age, which is taken: give the file another name, there and in the compose file", name, r.host.Name, key)
	}

	r.out.Secrets[key] = r.files[name]
	return key, nil
}

var unusual = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func (r *reading) mode(name string) fs.FileMode {
	if m := r.names[name]; m != "" && (m[0]-'0')&1 != 0 { // its owner may run it
		return 0o755
	}
	return 0o644
}

// finish splits the variables, and writes service.yaml.
func (r *reading) finish(result *compose.Result, composeFiles, env []string) error {
	key := r.out.Service + "-env"
	values, plain, err := r.split(env)
	if err != nil {
		return err
	}

	whole := slices.ContainsFunc(env, func(name string) bool { return r.isInput(result, name) })

	var from []string
	switch {
	case len(env) == 0:
	case !slices.ContainsFunc(env, r.holdsSecret): // they stay as they are
		for _, name := range env {
			r.out.Files[name] = File{r.files[name], 0o644}
		}
		from = env
	case whole && len(env) > 1:
		return fmt.Errorf("a container reads one of %s by env_file: and some of it is secret: join these files on %s first", strings.Join(env, ", "), r.host.Name)
	case whole:
		if err := r.envFileByKey(result, nil, env[0], key, key); err != nil {
			return err
		}
		r.out.Secrets[r.out.Service+".env"] = r.files[env[0]]
		from = []string{"secrets/" + r.out.Service + ".env.age"}
	default:
		if values != "" {
			r.out.Secrets[r.out.Service+".env"] = []byte(values)
			from = []string{"secrets/" + r.out.Service + ".env.age"}
		}
		if plain != "" {
			r.out.Files[ValuesFile] = File{[]byte(plain), 0o644}
			from = append(from, ValuesFile)
		}
	}

	r.out.Files["service.yaml"] = File{[]byte(r.serviceFile(composeFiles, from)), 0o644}
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
	keys := ""
	if len(r.keys) > 0 {
		keys = "keys: [" + strings.Join(r.keys, ", ") + "]\n"
	}
	if len(fields) == 0 && keys == "" {
		return "compose: { project: " + r.run.project + " }\n"
	}
	if len(fields) == 0 {
		return keys
	}

	return keys + "compose: { " + strings.Join(fields, ", ") + " }\n"
}
