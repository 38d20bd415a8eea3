package compose

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"bellhop/internal/bundle"
)

// resolve puts the values of a service's env files and label files into its definition, as compose does.
func (r *reading) resolve(s *types.ServiceConfig) {
	unset := slices.Sorted(maps.Keys(s.Environment))
	for _, name := range unset {
		if s.Environment[name] != nil {
			continue
		}
		if v, ok := r.values.value(name); ok {
			s.Environment[name] = &v
			continue
		}
		delete(s.Environment, name)
		d, at := r.find([]string{"services", s.Name, "environment"})
		r.warn(d, at, "services.%s.environment: %s has no value and is left out: none comes from the environment of a process; set it in env: or settings:", s.Name, name)
	}

	r.resolveEnvFiles(s)
	r.resolveLabels(s)
}

func (r *reading) resolveEnvFiles(s *types.ServiceConfig) {
	vars := map[string]string{}
	lookup := func(name string) (string, bool) {
		if v, ok := r.values.value(name); ok {
			return v, true
		}
		if v := s.Environment[name]; v != nil {
			return *v, true
		}
		return "", false
	}

	for _, f := range s.EnvFiles {
		if key, ok := r.keyAt(f.Path); ok {
			vars[secretMark+"file"] = key // what it sets is known on the host alone
			continue
		}
		if err := r.variables(s, "env_file", f.Path, bool(f.Required), func(name string, data []byte) error {
			return r.parseEnv(name, data, vars, lookup, f.Format)
		}); err != nil {
			d, at := r.find([]string{"services", s.Name, "env_file"})
			r.report(d, at, "services.%s.env_file: %v", s.Name, err)
		}
	}

	for name, v := range vars {
		if _, set := s.Environment[name]; !set {
			if s.Environment == nil {
				s.Environment = types.MappingWithEquals{}
			}
			s.Environment[name] = &v
		}
	}
}

func (r *reading) resolveLabels(s *types.ServiceConfig) {
	vars := map[string]string{}
	lookup := func(string) (string, bool) { return "", false } // labels see each other alone

	for _, file := range s.LabelFiles {
		if err := r.variables(s, "label_file", file, true, func(name string, data []byte) error {
			return r.parseEnv(name, data, vars, lookup, "")
		}); err != nil {
			d, at := r.find([]string{"services", s.Name, "label_file"})
			r.report(d, at, "services.%s.label_file: %v", s.Name, err)
		}
	}

	for name, v := range vars {
		if _, set := s.Labels[name]; !set {
			if s.Labels == nil {
				s.Labels = types.Labels{}
			}
			s.Labels[name] = v
		}
	}
}

// variables reads a file of variables of a service, which stands at a path of the host.
func (r *reading) variables(s *types.ServiceConfig, field, at string, required bool, parse func(name string, data []byte) error) error {
	name, ok := r.inProject(at)
	if !ok {
		return fmt.Errorf("%s is outside of %s, where it must be in %s", at, r.Dir, r.Folder)
	}

	if !slices.Contains(r.Names, name) && !required {
		d, pos := r.find([]string{"services", s.Name, field})
		r.warn(d, pos, "services.%s.%s: there is no %s in %s: a file of that name on the host would be read", s.Name, field, name, r.Folder)
		return nil
	}
	data, err := r.bytes(name)
	if err != nil {
		return err
	}

	if key := r.keyOf(name); key != "" {
		return fmt.Errorf("%s is a template that names a key: its values are known on the host alone; name the key's own file, %s/NAME", name, bundle.KeyDir)
	}

	r.travels[name] = true
	if field == "env_file" {
		r.envRead[name] = true
	}
	r.inputs[s.Name] = append(r.inputs[s.Name], r.dir(name))
	return parse(name, data)
}

// inProject is a path of the host as a name in the service's folder.
func (r *reading) inProject(at string) (name string, ok bool) {
	at = path.Clean(at)
	if at == r.Dir {
		return ".", true
	}
	return strings.CutPrefix(at, r.Dir+"/")
}

// Quote is a value as an env file of compose holds it, with nothing in it filled in or cut off.
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(s) + `"`
}

// keyAt is the name of the service's key that stands at a path of the host.
func (r *reading) keyAt(at string) (name string, ok bool) {
	name, below := strings.CutPrefix(path.Clean(at), bundle.KeyDir+"/")
	return name, below && slices.Contains(r.Keys, name)
}

func (r *reading) keyOf(name string) string {
	if r.Key == nil {
		return ""
	}
	return r.Key(name)
}
