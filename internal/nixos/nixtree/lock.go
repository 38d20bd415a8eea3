package nixtree

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A lock file names what a flake's inputs are, exactly. Nix copies a local input into the store, which
// all users can read, even where it refuses the input afterwards; so bellhop reads flake.lock first.

// A Problem is what is wrong with a file of the repo that Nix would read.
type Problem struct {
	File    string
	Message string
}

func (p *Problem) Error() string { return p.File + ": " + p.Message }

const maxLock = 8 << 20

// A lockNode is one input in flake.lock.
type lockNode struct {
	Inputs map[string]json.RawMessage `json:"inputs"`
	Locked map[string]any             `json:"locked"`
}

// checkLock refuses a flake whose inputs are not locked, or are files of this machine.
func (s *Source) checkLock() error {
	lock, err := readCapped(s.tree, "flake.lock", maxLock)
	if _, there := s.find("flake.lock"); there && err != nil {
		return &Problem{"flake.lock", err.Error()}
	}
	if err != nil {
		text, rerr := readCapped(s.tree, "flake.nix", maxNixFile)
		if rerr != nil {
			return &Problem{"flake.nix", rerr.Error()}
		}
		if hasInputs(string(text)) {
			return &Problem{"flake.lock", "the flake has inputs, and no flake.lock says which versions of them: run nix flake lock, and commit flake.lock"}
		}
		return nil
	}

	return CheckLock(lock, func(rel string) bool { return s.holds(rel) })
}

// holds says whether the source has a file or folder of that name.
func (s *Source) holds(name string) bool {
	_, err := fs.Stat(s.tree, name)
	return err == nil
}

var inputsWord = regexp.MustCompile(`(?m)^[^#"]*\binputs\s*(\.|=\s*\{\s*[^}\s])`)

// hasInputs says whether the text of a flake.nix gives it inputs. Where it is wrong, Nix itself refuses
// to evaluate without a lock.
func hasInputs(text string) bool { return inputsWord.MatchString(text) }

// CheckLock reads a flake.lock, and refuses one that names files of this machine: an absolute path, or
// git or a tarball by file:. A relative path is part of the repo; holds says whether it is there.
func CheckLock(lock []byte, holds func(rel string) bool) error {
	var file struct {
		Version int                 `json:"version"`
		Nodes   map[string]lockNode `json:"nodes"`
	}
	if err := json.Unmarshal(lock, &file); err != nil {
		return &Problem{"flake.lock", "it is not JSON as Nix writes it: " + err.Error()}
	}

	for _, name := range slices.Sorted(maps.Keys(file.Nodes)) {
		if why := localInput(file.Nodes[name].Locked, holds); why != "" {
			return &Problem{"flake.lock", fmt.Sprintf("input %s is %s: Nix would copy it into the store, where all users of the deployer can read it; publish it as a repository, or move it into this one", name, why)}
		}
	}

	return nil
}

// localInput says what local thing the input is; "" for one that is none.
func localInput(locked map[string]any, holds func(string) bool) string {
	str := func(field string) string {
		s, _ := locked[field].(string)
		return s
	}

	kind := str("type")
	if kind == "path" {
		p := str("path")
		inside := p != "" && !path.IsAbs(p) && fs.ValidPath(path.Clean(p))
		if inside && holds(path.Clean(p)) {
			return ""
		}
		return fmt.Sprintf("the local path %q", p)
	}

	if where := str("url"); isLocalURL(kind, where) {
		return fmt.Sprintf("the local %s %q", kind, where)
	}

	return ""
}

func isLocalURL(kind, where string) bool {
	if where == "" {
		return false
	}
	u, err := url.Parse(where)
	if err != nil {
		return true
	}
	scheme := u.Scheme[strings.LastIndex(u.Scheme, "+")+1:]
	if scheme == "" {
		return slices.Contains([]string{"git", "hg", "tarball", "file"}, kind) // they fetch a bare path
	}

	return scheme == "file" || scheme == "path"
}
