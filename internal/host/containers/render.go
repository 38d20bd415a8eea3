package containers

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// In lies a stack below another root: its files were written there to be tried out.
func (s *Stack) In(root string) Stack {
	moved := *s
	moved.Dir = root + s.Dir
	moved.Files, moved.Env = nil, nil
	for _, f := range s.Files {
		moved.Files = append(moved.Files, root+f)
	}
	for _, f := range s.Env {
		moved.Env = append(moved.Env, root+f)
	}
	return moved
}

// Tried is a file of a stack as it is tried out below root. An env_file that is a key is read by compose
// itself, and with a new service its value waits below root alone: what compose reads names it there.
// Render takes root out again. Files that containers see or are built from, and files of variables, stay as
// they are, but for a compose file that lies in its own build context.
func (s *Stack) Tried(path string, text []byte, root string) []byte {
	takesKeys := slices.ContainsFunc(s.Containers, func(c bundle.Container) bool { return len(c.EnvKeys) > 0 })
	if !takesKeys || slices.Contains(s.Env, path) {
		return text
	}

	isSeen := slices.ContainsFunc(s.Containers, func(c bundle.Container) bool {
		return slices.Contains(c.Files, path) || slices.Contains(c.Inputs, path)
	})
	if isSeen && !slices.Contains(s.Files, path) {
		return text
	}
	return bytes.ReplaceAll(text, []byte(bundle.KeyDir+"/"), []byte(root+bundle.KeyDir+"/"))
}

// Rendered is what the host's compose makes of a stack.
type Rendered struct {
	Hashes map[string]string // of the definitions of containers, by name: equal ones as labels mean that nothing differs
	Needs  []External
}

// An External is a network or a volume that has to be on the host before a stack starts: compose does not make it.
type External struct{ Kind, Name string } // "network" or "volume", and its name on the host

// Render has the host's compose read a stack that lies below root, as it will be where the stack is to stand. What
// compose resolves holds values of variables, so it is handed on in memory.
func (e Engine) Render(ctx context.Context, s *Stack, root string) (*Rendered, error) {
	tried := s.In(root)
	text, err := e.compose(ctx, &tried, "config")
	if err != nil {
		return nil, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), root, ""))
	}

	here := *s
	here.Files, here.Env = []string{"-"}, nil
	p := here.program("config", "--hash", "*")
	p.In, p.Dir = strings.ReplaceAll(text, root, ""), ""
	out, err := e.run(ctx, p)
	if err != nil {
		return nil, err
	}
	if out.Exit != 0 {
		return nil, fmt.Errorf("docker compose config --hash: %s", composeSaid(out.Stderr))
	}
	return &Rendered{readHashes(out.Stdout), readExternals(text)}, nil
}

// readExternals reads what "compose config" prints of external networks and volumes. It leaves out those that no
// container uses.
func readExternals(text string) (all []External) {
	kind, name, isExternal := "", "", false
	end := func() {
		if kind != "" && name != "" && isExternal {
			all = append(all, External{kind, name})
		}
		name, isExternal = "", false
	}
	for line := range strings.Lines(text) {
		rest := strings.TrimLeft(line, " ")
		switch column := len(line) - len(rest); {
		case column == 0:
			end()
			kind = map[string]string{"networks:": "network", "volumes:": "volume"}[strings.TrimSpace(rest)]
		case column == 2:
			end()
		case column == 4:
			key, value, _ := strings.Cut(rest, ":")
			isExternal = isExternal || key == "external" && scalar(value) == "true"
			if key == "name" {
				name = scalar(value)
			}
		}
	}

	end()
	return all
}

// Has says whether the host has a network or a volume.
func (e Engine) Has(ctx context.Context, x External) (bool, error) {
	out, err := e.run(ctx, machine.Program{Argv: []string{e.program(), x.Kind, "inspect", "-f", "{{.Name}}", x.Name}})
	if err != nil || out.Exit == 0 {
		return err == nil, err
	}
	said := strings.ToLower(out.Stderr)
	if strings.Contains(said, "not found") || strings.Contains(said, "no such ") {
		return false, nil
	}
	return false, fmt.Errorf("%s %s inspect: %s", e.program(), x.Kind, lastLine(out.Stderr))
}

func readHashes(text string) map[string]string {
	hashes := map[string]string{}
	for line := range strings.Lines(text) {
		if name, hash, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			hashes[name] = hash
		}
	}
	return hashes
}

// Build builds the images of containers, from a stack that lies below root. env is added to the environment of
// compose.
func (e Engine) Build(ctx context.Context, s *Stack, root string, env, names []string) error {
	tried := s.In(root)
	p := tried.program(slices.Concat([]string{"build", "-q", "--"}, names)...)
	p.Env = append(p.Env, env...)
	out, err := e.run(ctx, p)
	if err != nil {
		return failure(s.Service, "", err)
	}
	if out.Exit != 0 {
		return fmt.Errorf("build: %s", composeSaid(out.Stderr))
	}
	return nil
}

// Floor is the oldest compose that this was tried with.
const Floor = "2.26"

// Version is the version of the host's compose, such as 2.26.1.
func (e Engine) Version(ctx context.Context) (string, error) {
	out, err := e.run(ctx, machine.Program{Argv: []string{Docker, "compose", "version", "--short"}})
	if err != nil {
		return "", err
	}
	if out.Exit != 0 {
		return "", fmt.Errorf("docker compose is not there: %s", lastLine(out.Stderr))
	}
	return strings.TrimPrefix(strings.TrimSpace(out.Stdout), "v"), nil
}
