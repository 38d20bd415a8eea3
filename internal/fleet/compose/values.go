package compose

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"bellhop/internal/fleet/problem"
)

// values are what variables of compose files may be: of the declared env files, of settings, and, by name
// alone, of the secret env file.
type values struct {
	env      map[string]string
	settings map[string]string
	extra    map[string]string // of the env_file of an include
	secret   bool              // there is a secret env file: what nothing else sets is one of its variables
	assumed  bool              // a variable was taken for one of the secret env file

	used   map[string]bool // settings that were asked for
	asked  map[string]bool // variables that nothing sets
	closed map[string]bool // variables that a process sets by itself
	homes  map[string]bool // variables that begin with ~
	filled int             // bytes
}

// secretMark stands for a value of the secret env file, which no definition may hold.
const secretMark = "BELLHOP-SECRET-"

// ofProcess are variables that a process on the host has by itself, and that would win over env files there.
var ofProcess = []string{"HOME", "PATH", "PWD", "USER", "LOGNAME", "SHELL", "HOSTNAME"}

// lookup is compose's way to ask for a variable.
func (v *values) lookup(name string) (string, bool) {
	value, ok := v.value(name)
	if v.filled += len(value); v.filled > maxFilled {
		return "", ok
	}
	if !ok {
		v.note(&v.asked, name)
	}
	if strings.HasPrefix(value, "~") {
		v.note(&v.homes, name)
	}

	return value, ok
}

func (v *values) value(name string) (string, bool) {
	isOfDocker := strings.HasPrefix(name, "DOCKER_")
	isOfCompose := strings.HasPrefix(name, "COMPOSE_") && name != "COMPOSE_PROJECT_NAME"
	if isOfDocker || isOfCompose || slices.Contains(ofProcess, name) {
		v.note(&v.closed, name)
		return "", false
	}
	if s, ok := v.settings[name]; ok {
		v.note(&v.used, name)
		return s, true
	}
	if s, ok := v.env[name]; ok {
		return s, true
	}
	if s, ok := v.extra[name]; ok {
		return s, true
	}
	if v.secret && name != "COMPOSE_PROJECT_NAME" {
		v.assumed = true
		return secretMark + name, true
	}

	return "", false
}

func (v *values) note(in *map[string]bool, name string) {
	if *in == nil {
		*in = map[string]bool{}
	}
	(*in)[name] = true
}

// known are the variables whose values are known, for compose-go's own use.
func (v *values) known() map[string]string {
	all := maps.Clone(v.env)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, v.settings)
	return all
}

// readEnv reads the declared env files.
func (r *reading) readEnv() {
	r.values.env = map[string]string{}
	for _, name := range r.Env {
		r.travels[name] = true
		vars, err := r.envFile(name, func(key string) (string, bool) {
			v, ok := r.values.env[key]
			return v, ok
		})
		if err != nil {
			r.reportFile(name, "%v", err)
			continue
		}
		maps.Copy(r.values.env, vars)
	}

	for name := range r.values.settings {
		if _, twice := r.values.env[name]; twice {
			r.reportFile(r.Env[0], "%s is set here and is a setting of service.yaml: keep one of them", name)
		}
	}
}

// envFile parses one env file of the folder.
func (r *reading) envFile(name string, lookup dotenv.LookupFn) (map[string]string, error) {
	data, err := r.bytes(name)
	if err != nil {
		return nil, err
	}

	vars := map[string]string{}
	return vars, r.parseEnv(name, data, vars, lookup, "")
}

// parseEnv parses an env file into vars. Its variables may stand in each other, and those of other files in
// them, so what is asked for is counted, and is nothing once that comes to more than the bounds.
func (r *reading) parseEnv(name string, data []byte, vars map[string]string, lookup dotenv.LookupFn, format string) error {
	size := len(data)
	r.envs += len(data)
	bounded := func(key string) (string, bool) {
		v, ok := lookup(key)
		if !ok {
			v, ok = vars[key]
		}
		size, r.envs = size+len(v), r.envs+len(v)
		if size > maxEnv || r.envs > maxEnvs {
			return "", ok
		}
		return v, ok
	}

	err := dotenv.ParseWithFormat(bytes.NewReader(data), name, vars, bounded, format)

	switch {
	case size > maxEnv:
		return fmt.Errorf("the variables of %s come to more than %d KiB", name, maxEnv>>10)
	case r.envs > maxEnvs:
		return fmt.Errorf("the variables of all env files and services come to more than %d MiB", maxEnvs>>20)
	}

	return err
}

// checkValues reports the variables that nothing sets, at the line that asks for each.
func (r *reading) checkValues() {
	if r.values.filled > maxFilled {
		r.reportFile(r.Files[0], "variables put more than %d MiB into the compose files", maxFilled>>20)
	}

	for _, name := range slices.Sorted(maps.Keys(r.values.closed)) {
		d, at := r.use(name, false)
		r.report(d, at, "${%s} is not filled in: a process's environment is no source of values; give it another name, and set that in env: or settings:", name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.values.homes)) {
		d, at := r.use(name, false)
		r.report(d, at, "the value of ${%s} begins with ~: write the absolute path", name)
	}

	for _, name := range slices.Sorted(maps.Keys(r.values.asked)) {
		if d, at := r.use(name, true); !r.values.closed[name] && at.Line > 0 {
			r.report(d, at, "${%s} is set nowhere: put it into the file of env:, or settings: in service.yaml, or write ${%s:-} for nothing", name, name)
		}
	}
}

// use is the first place that asks for a variable: with bare, one that gives no value for the case that it
// is not set.
func (r *reading) use(name string, bare bool) (*doc, problem.Pos) {
	rule := regexp.MustCompile(`\$\{?` + regexp.QuoteMeta(name) + `([^A-Za-z0-9_]|$)`)
	for _, file := range append(slices.Clone(r.Files), r.others()...) {
		d := r.docs[file]
		if d == nil {
			continue
		}
		n := 0
		for line := range bytes.Lines(d.data) {
			n++
			for _, m := range rule.FindAllSubmatchIndex(line, -1) {
				escaped := m[0] > 0 && line[m[0]-1] == '$'
				isComment := bytes.HasPrefix(bytes.TrimSpace(line), []byte("#"))
				hasDefault := line[m[0]+1] == '{' && bytes.ContainsAny(line[m[2]:m[3]], ":-?+")
				if escaped || isComment {
					continue
				}
				if !bare || !hasDefault {
					return d, problem.Pos{Line: n, Column: m[0] + 1}
				}
			}
		}
	}

	return r.docs[r.Files[0]], problem.Pos{}
}

// others are the parsed files that Files does not list, sorted.
func (r *reading) others() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.docs)) {
		if !slices.Contains(r.Files, name) && r.docs[name].root != nil {
			out = append(out, name)
		}
	}

	return out
}

// strays are files that compose would read by itself and that nothing declares.
func (r *reading) strays() {
	declared := append(slices.Clone(r.Files), r.Env...)
	for _, name := range r.Names {
		if r.travels[name] || slices.Contains(declared, name) || path.Dir(name) != "." {
			continue
		}
		switch {
		case name == ".env":
			r.note(name, "is ignored: values come from the files of env: in service.yaml alone; write env: .env there if this one is meant")
		case strings.HasPrefix(name, "compose.override.") || strings.HasPrefix(name, "docker-compose.override."):
			r.note(name, "is ignored: the compose files are %s; write compose: { files: [%s, %s] } in service.yaml if this one is meant", strings.Join(r.Files, ", "), strings.Join(r.Files, ", "), name)
		}
	}

	if len(r.Env) == 0 {
		return
	}

	for _, key := range slices.Sorted(maps.Keys(r.values.env)) { // of all files together, told at the first
		if strings.HasPrefix(key, "COMPOSE_") || strings.HasPrefix(key, "DOCKER_") {
			r.note(r.Env[0], "%s is ignored: bellhop names the project, its folder and its files by itself", key)
		}
	}
}

// note adds a warning on a file of the folder.
func (r *reading) note(name, format string, args ...any) {
	r.reportFile(name, format, args...)
	r.out.Problems[len(r.out.Problems)-1].Warning = true
}
