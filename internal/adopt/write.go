package adopt

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/plain"
)

// Write writes the service into the config repo in dir, which has none of that name. seal encrypts one value,
// by its name below secrets/; nothing is written before all of them are.
func (s *Stack) Write(dir string, seal func(name string, value []byte) error) error {
	root, err := os.OpenRoot(dir) // a link in the work tree must not lead out of it
	if err != nil {
		return err
	}
	defer root.Close()

	folder := "services/" + s.Service
	if _, err := root.Lstat(folder); err == nil {
		return fmt.Errorf("there is %s already: choose another name with --name", folder)
	}

	for _, name := range slices.Sorted(maps.Keys(s.Secrets)) {
		if _, err := root.Lstat("secrets/" + name + ".age"); err == nil {
			return fmt.Errorf("there is secrets/%s.age already: choose another name with --name", name)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(s.Secrets)) {
		if err := seal(name, s.Secrets[name]); err != nil {
			return err
		}
	}

	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		f, at := s.Files[name], folder+"/"+name
		if err := root.MkdirAll(path.Dir(at), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(at, f.Data, f.Mode|fs.FileMode(0o200)); err != nil {
			return err
		}
	}

	return nil
}

// Text is what a person should hear of s.
func (s *Stack) Text(host string) string {
	text := fmt.Sprintf("wrote services/%s of the project %s: look at it, then switch it on in bellhop.yaml, at %s: services: { %s: true }\n", s.Service, s.Project, host, s.Service)
	switch {
	case len(s.Differ) > 0:
		text += fmt.Sprintf("the first deploy makes these containers anew, or removes them: they were started by another definition than the files on %s have now: %s\n", host, strings.Join(s.Differ, ", "))
	case s.Compared:
		text += fmt.Sprintf("what runs on %s is what these files say: no container is made anew\n", host)
	}

	if n := len(s.Left); n > 0 {
		text += fmt.Sprintf("%d files that it mounts stay on %s as they are, such as %s\n", n, host, plain.Line(s.Left[0], plain.MaxLine))
	}
	return text
}

// Clear overwrites the values.
func (s *Stack) Clear() {
	for _, v := range s.Secrets {
		clear(v)
	}
}

// likelySecret are names of variables whose values are secret, most likely.
var likelySecret = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|cred|auth|salt|private|dsn|database_url|jwt|hash`)

// Ask has a person say of each variable and file whether it is secret. Values are not shown. asPlain are those that are
// known to be none. Without a terminal, in is nil, and all others count as secret.
func Ask(in io.Reader, out io.Writer, asPlain []string) func(name string, likely bool) (bool, error) {
	var lines *bufio.Reader
	if in != nil {
		lines = bufio.NewReader(in)
	}
	return func(name string, likely bool) (bool, error) {
		if slices.Contains(asPlain, name) || lines == nil {
			return !slices.Contains(asPlain, name), nil
		}

		choice, what := "[y/N]", "its value"
		if strings.ContainsAny(name, "./") {
			what = "this file"
		}
		if likely {
			choice = "[Y/n]"
		}
		for {
			fmt.Fprintf(out, "%s: is %s secret? %s ", plain.Line(name, plain.MaxLine), what, choice)
			answer, err := lines.ReadString('\n')
			if err != nil {
				return false, fmt.Errorf("read the answer: %w", err)
			}
			switch strings.ToLower(strings.TrimSpace(answer)) {
			case "":
				return likely, nil
			case "y", "yes":
				return true, nil
			case "n", "no":
				return false, nil
			}
		}
	}
}
