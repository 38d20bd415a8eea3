package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"bellhop/internal/yamledit"
)

// A knownFleet is what host add and host remove need to know of a config, read loosely: a
// fleet that is not right yet may still get a host.
type knownFleet struct {
	Deployer string               `yaml:"deployer"`
	Hosts    map[string]knownHost `yaml:"hosts"`

	path, text string // of bellhop.yaml
}

type knownHost struct {
	HostKey any `yaml:"host_key"`
	Address any `yaml:"address"`
	Tags    any `yaml:"tags"`

	path string // of bellhop.yaml, when it stands there; ""
	own  string // path of its hosts/NAME.yaml; "" has none
}

// files are where it stands; more than one is a mistake of the config.
func (h knownHost) files() (paths []string) {
	for _, p := range []string{h.path, h.own} {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// pins are its host keys: one line, or a list of them.
func (h knownHost) pins() (lines []string) {
	list, ok := h.HostKey.([]any)
	if !ok {
		list = []any{h.HostKey}
	}
	for _, v := range list {
		if line, ok := v.(string); ok && line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// tags are the words of its tags: line; what is no list of words has none here.
func (h knownHost) tags() (words []string) {
	list, _ := h.Tags.([]any)
	for _, v := range list {
		if word, ok := v.(string); ok {
			words = append(words, word)
		}
	}
	return words
}

// knowFleet reads the fleet of dir: bellhop.yaml, and hosts/NAME.yaml of one host each.
func knowFleet(dir string) (*knownFleet, error) {
	path := filepath.Join(dir, fleetFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	k := &knownFleet{path: path, text: string(text)}
	if err := yaml.Unmarshal(text, k); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if k.Hosts == nil {
		k.Hosts = map[string]knownHost{}
	}

	for name, h := range k.Hosts {
		h.path = path
		k.Hosts[name] = h
	}

	return k, k.ownFiles(filepath.Join(dir, "hosts"))
}

// ownFiles adds the hosts that have a file of their own.
func (k *knownFleet) ownFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}

	for _, e := range entries {
		name, isYAML := strings.CutSuffix(e.Name(), ".yaml")
		isHidden := strings.HasPrefix(name, ".") || name == ""
		if !isYAML || isHidden || !e.Type().IsRegular() {
			continue // bellhop check says what is wrong with it
		}

		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}

		h, twice := k.Hosts[name]
		if !twice {
			if err := yaml.Unmarshal(text, &h); err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
		}

		h.own = path
		k.Hosts[name] = h
	}

	return nil
}

// drop takes a host out of the files of the config.
func (k *knownFleet) drop(name string) error {
	h := k.Hosts[name]
	if h.path != "" {
		edited, err := yamledit.DropHost(k.text, name)
		if err != nil {
			return err
		}
		if err := replaceFile(h.path, []byte(edited)); err != nil {
			return err
		}
		k.text = edited
	}

	if h.own != "" {
		return os.Remove(h.own)
	}
	return nil
}

// at is the host that has an address ("ip:port") as its own, or as one of several.
func (k *knownFleet) at(address string) string {
	bare, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(k.Hosts)) {
		list, ok := k.Hosts[name].Address.([]any)
		if !ok {
			list = []any{k.Hosts[name].Address}
		}
		if slices.Contains(list, any(address)) || port == "22" && slices.Contains(list, any(bare)) {
			return name
		}
	}

	return ""
}
