package secrets

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

// Plugins says which age plugins may be run. The zero value: none, which is right for a server,
// since a pushed recipient must not start anything there. Whatever runs is found here, by its
// absolute path, and gets no more environment than it needs.
type Plugins struct {
	Path  bool     // look for age-plugin-NAME on $PATH: for a person at a terminal
	Allow []string // absolute paths of plugins that may be run: for a server

	Show    func(message string)                             // nil: messages are dropped
	Ask     func(prompt string, secret bool) (string, error) // nil: a plugin that asks is told no
	Confirm func(prompt, yes, no string) (bool, error)       // nil: likewise
}

// pluginError is a plugin that is not there, not allowed, or did not do its work. Its text names
// the plugin and no more than one line of what it said.
type pluginError struct {
	name string
	err  error
}

func (e *pluginError) Error() string { return fmt.Sprintf("age-plugin-%s: %v", e.name, e.err) }
func (e *pluginError) Unwrap() error { return e.err }

var errPluginOff = errors.New("plugins are not run here; allow it by its absolute path")

// find gives the program for a plugin's name.
func (p Plugins) find(name string) (string, error) {
	program := "age-plugin-" + name
	if strings.ContainsAny(name, "/\\\x00") || name == "" {
		return "", &pluginError{"?", errors.New("its name cannot be a program's")}
	}
	i := slices.IndexFunc(p.Allow, func(a string) bool { return filepath.IsAbs(a) && filepath.Base(a) == program })
	if i >= 0 {
		if _, err := exec.LookPath(p.Allow[i]); err != nil {
			return "", &pluginError{name, errors.New("it is allowed, and not there")}
		}
		return p.Allow[i], nil
	}
	if !p.Path {
		return "", &pluginError{name, errPluginOff}
	}
	found, err := exec.LookPath(program)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return "", &pluginError{name, errors.New("it is not on $PATH")}
	}
	return found, nil
}

func (p Plugins) recipient(r Recipient) (age.Recipient, error) {
	program, err := p.find(r.plugin)
	if err != nil {
		return nil, err
	}
	return &pluginClient{name: r.plugin, program: program, key: r.text, ui: p}, nil
}

func (p Plugins) identity(line string) (*identity, error) {
	name, _, err := plugin.ParseIdentity(line)
	if err != nil {
		return nil, errors.New("malformed plugin key")
	}
	program, err := p.find(name)
	if err != nil {
		return nil, err
	}
	k := &pluginClient{name: name, program: program, key: line, ui: p}
	return &identity{key: k, public: "plugin " + name}, nil
}
