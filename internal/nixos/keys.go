package nixos

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// A Key is one of deployment.keys: what it is called, whose it is, and where its value comes from, which is one of
// four. Its value is not in it.
type Key struct {
	Name  string `json:"name"`
	Path  string `json:"path"` // on the host
	User  string `json:"user"`
	Group string `json:"group"`
	Mode  uint32 `json:"mode"` // permission bits

	File    string   `json:"file,omitempty"`    // in the repo; an age file, or one that is as it is
	Local   string   `json:"local,omitempty"`   // an absolute path of the deployer's machine
	Command []string `json:"command,omitempty"` // whose output it is
	Text    bool     `json:"text,omitempty"`    // it is written in the configuration
}

// From says where the value comes from, for people.
func (k *Key) From() string {
	switch {
	case k.File != "":
		return k.File
	case k.Local != "":
		return k.Local
	case k.Text:
		return "text in the configuration"
	}
	return "keyCommand"
}

// KeyDir is where keys are on a host, and the only place that destDir may name.
const KeyDir = "/run/keys"

// An evaluatedKey is a key as the evaluation tells of it.
type evaluatedKey struct {
	Name string
	Text bool
	File *struct {
		Type, Path string
		Context    bool
	}
	Command     []string
	Dir         string
	User, Group string
	Permissions string
	UploadAt    string
}

// keysOf reads the keys of one host. source is the store path of what was evaluated.
func keysOf(all []evaluatedKey, source string) ([]Key, error) {
	var keys []Key
	var errs []error
	for i := range all {
		k, err := all[i].key(source)
		if err != nil {
			errs = append(errs, fmt.Errorf("deployment.keys.%s: %w", all[i].Name, err))
		}
		keys = append(keys, k)
	}

	return keys, errors.Join(errs...)
}

func (e *evaluatedKey) key(source string) (Key, error) {
	k := Key{Name: e.Name, User: e.User, Group: e.Group, Text: e.Text, Command: e.Command}
	mode, err := strconv.ParseUint(e.Permissions, 8, 32)
	if err != nil || mode > 0o777 {
		return k, fmt.Errorf("permissions %q are no octal number such as \"0400\"", e.Permissions)
	}

	k.Mode = uint32(mode)

	dir := path.Clean(e.Dir)
	if dir != KeyDir && !strings.HasPrefix(dir, KeyDir+"/") {
		return k, fmt.Errorf("destDir %s is not below %s, the only place whose files are never on disk", e.Dir, KeyDir)
	}

	k.Path = path.Join(dir, e.Name)

	if err := e.oneValue(); err != nil {
		return k, err
	}
	if e.File != nil {
		k.File, k.Local, err = e.file(source)
	}

	return k, err
}

// oneValue refuses a key with no value, or with two.
func (e *evaluatedKey) oneValue() error {
	n := 0
	for _, has := range []bool{e.Text, e.File != nil, e.Command != nil} {
		if has {
			n++
		}
	}

	if n != 1 {
		return errors.New("want one of text, keyFile and keyCommand")
	}
	if e.Command != nil && len(e.Command) == 0 {
		return errors.New("keyCommand is empty")
	}

	return nil
}

// file finds a keyFile again: in the repo, where it is below the source, or on the deployer's machine.
func (e *evaluatedKey) file(source string) (inRepo, local string, err error) {
	p := path.Clean(e.File.Path)
	if rest, ok := strings.CutPrefix(p, source+"/"); ok && source != "" {
		return rest, "", nil
	}
	if p == StoreDir || strings.HasPrefix(p, StoreDir+"/") {
		name := path.Base(p)
		if len(name) > 33 {
			name = name[33:]
		}
		return "", "", fmt.Errorf("keyFile is %s, a copy in the store that no longer says where in the repo it was; "+
			"write a path, without quotes and ${}: keyFile = ./…/%s;", p, name)
	}
	if !path.IsAbs(p) {
		return "", "", fmt.Errorf("keyFile %q is neither a path nor absolute", e.File.Path)
	}

	return "", p, nil
}
