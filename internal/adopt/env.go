package adopt

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
)

// isEnvName says whether a file holds variables by its name, whoever reads it.
func isEnvName(name string) bool {
	name = path.Base(name)
	return strings.HasPrefix(name, ".env") || strings.HasSuffix(name, ".env")
}

// assignment is a line that sets a variable, or did before somebody made it a comment.
var assignment = regexp.MustCompile(`(?m)^[\s#]*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=`)

// variables are the names that a file sets, in some way of reading it. ok is false when it is no file of variables.
func variables(data []byte) (names []string, ok bool) {
	// A variable within a value is one byte here, so that no file grows by being read.
	vars, err := dotenv.ParseWithLookup(strings.NewReader(string(data)), func(string) (string, bool) { return "x", true })
	if err != nil {
		return nil, false
	}

	names = slices.Collect(maps.Keys(vars))
	for _, m := range assignment.FindAllSubmatch(data, -1) {
		names = append(names, string(m[1]))
	}

	slices.Sort(names)
	return slices.Compact(names), true
}

// isSecret asks of a variable, once.
func (r *reading) isSecret(variable string) (bool, error) {
	if is, has := r.known[variable]; has {
		return is, nil
	}

	is, err := r.IsSecret(variable, likelySecret.MatchString(variable))
	if err == nil {
		r.known[variable] = is
	}
	return is, err
}

// askAll asks of all variables of files, in order.
func (r *reading) askAll(files []string) error {
	var all []string
	for _, f := range files {
		data, err := r.read(f)
		if err != nil {
			return err
		}
		names, _ := variables(data)
		all = append(all, names...)
	}

	slices.Sort(all)

	for _, name := range slices.Compact(all) {
		if _, err := r.isSecret(name); err != nil {
			return err
		}
	}

	return nil
}

// holdsSecret says whether a file that askAll was given has anything secret. One that can't be read as
// variables has.
func (r *reading) holdsSecret(file string) bool {
	names, ok := variables(r.files[file])
	return !ok || slices.ContainsFunc(names, func(n string) bool { return r.known[n] })
}

// takeVariables brings files of variables, other than those that compose reads by itself. One with a secret is
// sealed whole: containers read a key in its place, or mount one.
func (r *reading) takeVariables(result *compose.Result, env, files []string) error {
	if err := r.askAll(slices.Concat(env, files)); err != nil {
		return err
	}

	for _, name := range files {
		if !r.holdsSecret(name) {
			r.out.Files[name] = File{r.files[name], r.mode(name)}
			continue
		}
		if err := r.takeSecretVariables(result, env, name); err != nil {
			return err
		}
	}

	return nil
}

func (r *reading) takeSecretVariables(result *compose.Result, env []string, name string) error {
	file := r.Dir + "/" + name
	isMounted := func(c bundle.Container) bool { return slices.Contains(c.Files, file) }
	isInput := func(c bundle.Container) bool { return slices.Contains(c.Inputs, file) }
	if slices.ContainsFunc(result.Project.Containers, isMounted) {
		if err := r.sealFile(name); err != nil {
			return err
		}
	}

	switch {
	case slices.Contains(result.EnvFiles, name) && slices.ContainsFunc(result.Project.Containers, isInput):
		key, err := r.sealedAs(name)
		if err != nil {
			return err
		}
		r.keys = append(r.keys, key)
		return r.envFileByKey(result, env, name, key, "")
	case slices.Contains(result.EnvFiles, name), slices.ContainsFunc(result.Project.Containers, isInput):
		return fmt.Errorf("%s on %s is read by include: or by a build, and some of it is secret: what is secret there must go to .env, or to env_file: of a container; what is not, say by --plain", name, r.host.Name)
	}

	return nil
}

// sealedAs is the key of a file, which may be sealed already.
func (r *reading) sealedAs(name string) (string, error) {
	if f, has := r.out.Files[name+".tmpl"]; has {
		return strings.TrimSuffix(strings.TrimPrefix(string(f.Data), `{{ key "`), `" }}`), nil
	}
	return r.seal(name)
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
		isSecret, err := r.isSecret(name)
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
// when the same containers are read to take the key, and nothing reads the file any more. env are the env files of the
// project from then on, and envKey its key; "" for none.
func (r *reading) envFileByKey(was *compose.Result, env []string, name, key, envKey string) error {
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

	file := r.Dir + "/" + name
	now, err := r.parse(files, env, envKey)
	for _, c := range was.Project.Containers {
		o := now.Project.ContainerOf(c.Name)
		isRead := err == nil && o != nil && !slices.Contains(now.EnvFiles, name)
		isRight := isRead && slices.Equal(others(c.Inputs, file), o.Inputs)
		hadIt := slices.Contains(c.Inputs, file)
		if isRight && (key != envKey || hadIt) {
			isRight = slices.Contains(o.EnvKeys, key) == hadIt
		}
		if !isRight && hadIt {
			return fmt.Errorf("%s reads %s by env_file:, and some of it is secret: have it read %s/%s, in a way that is simple to change, such as env_file: %s in a line of its own", c.Name, name, bundle.KeyDir, key, name)
		}
		if !isRight && err == nil {
			return fmt.Errorf("%s can't be made a key: the container %s would read something else: give it a name that stands in env_file: of %s alone, or say by --plain what of it is not secret", name, c.Name, r.run.project)
		}
	}

	if err != nil {
		return err
	}

	*was = now
	return nil
}

func others(list []string, file string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == file })
}
