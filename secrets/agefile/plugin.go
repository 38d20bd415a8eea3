package agefile

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
	Ask     func(prompt string, secret bool) (string, error) // nil: a plugin that asks gets no answer
	Confirm func(prompt, yes, no string) (bool, error)       // nil: likewise
}

// pluginError is a plugin that is not there, not allowed, or did not do its work. Its text names
// the plugin and no more than one line of what it said.
type pluginError struct {
	name string
	err  error
	gone bool // it was not even run
}

func (e *pluginError) Error() string { return fmt.Sprintf("age-plugin-%s: %v", e.name, e.err) }
func (e *pluginError) Unwrap() error { return e.err }

var errPluginOff = errors.New("plugins are not run here; allow it by its absolute path")

// find gives the program for a plugin's name.
func (p Plugins) find(name string) (string, error) {
	program := "age-plugin-" + name
	if strings.ContainsAny(name, "/\\\x00") || name == "" {
		return "", &pluginError{"?", errors.New("its name cannot be a program's"), true}
	}

	i := slices.IndexFunc(p.Allow, func(a string) bool { return filepath.IsAbs(a) && filepath.Base(a) == program })
	if i >= 0 {
		if _, err := exec.LookPath(p.Allow[i]); err != nil {
			return "", &pluginError{name, errors.New("it is allowed, and not there"), true}
		}
		return p.Allow[i], nil
	}

	if !p.Path {
		return "", &pluginError{name, errPluginOff, true}
	}

	found, err := exec.LookPath(program)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return "", &pluginError{name, errors.New("it is not on $PATH"), true}
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
	id := &identity{public: "plugin " + name}
	if program, err := p.find(name); err != nil {
		id.key = &absent{err}
	} else {
		id.key = &pluginClient{name: name, program: program, key: line, ui: p}
	}

	return id, nil
}

// absent is an identity whose plugin is not there or not allowed. It comes last, and so harms
// only files that no other key opens; Unlock reports it at once.
type absent struct{ err error }

// Unwrap fails with what is missing.
func (a *absent) Unwrap([]*age.Stanza) ([]byte, error) { return nil, a.err }

func (a *absent) unlock() error { return a.err }
