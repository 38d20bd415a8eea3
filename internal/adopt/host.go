package adopt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
	"bellhop/internal/plain"
)

// A Host is where the project runs.
type Host struct {
	Name string
	// Run runs a line of shell as root, and returns what it printed. What a login shell prints by itself may come first.
	Run func(ctx context.Context, line string) (string, error)
}

// begin stands before what a command prints.
const begin = "bellhop: the answer begins\n"

func (h *Host) ask(ctx context.Context, line string) (string, error) {
	out, err := h.Run(ctx, `printf 'bellhop: the answer begins\n'; `+line)
	if err != nil {
		return "", err
	}
	_, answer, ok := strings.Cut(out, begin)
	if !ok {
		return "", fmt.Errorf("%s gave no answer", h.Name)
	}

	return answer, nil
}

// A running is a project as the labels of its containers say.
type running struct {
	project string
	files   []string // of compose, as the labels have them
	env     []string // of variables; none: .env, where there is one
}

// running finds the project whose directory is dir.
func (h *Host) running(ctx context.Context, dir string) (running, error) {
	const label = "com.docker.compose.project"
	format := fmt.Sprintf(`{{.Label "%[1]s"}}|{{.Label "%[1]s.config_files"}}|{{.Label "%[1]s.environment_file"}}`, label)
	text, err := h.ask(ctx, "docker ps -a --filter label="+label+".working_dir="+quote(dir)+" --format "+quote(format))
	if err != nil {
		return running{}, err
	}

	lines := slices.Compact(slices.Sorted(strings.SplitSeq(strings.TrimSpace(text), "\n")))
	if lines[0] == "" {
		return running{}, fmt.Errorf("no container on %s was started by docker compose from %s: `docker compose ls` there shows each project with its files", h.Name, dir)
	}

	var found running
	for _, line := range lines {
		f := strings.Split(line, "|")
		if len(f) != 3 || found.project != "" && f[0] != found.project {
			return running{}, fmt.Errorf("containers of several projects on %s were started from %s: %s", h.Name, dir, plain.Line(strings.Join(lines, " "), 200))
		}
		found.project, found.files, found.env = f[0], list(f[1]), list(f[2])
	}

	return found, nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

// Bounds of a folder.
const (
	maxNames = 20000
	maxDepth = 4
	maxBytes = 64 << 20 // of all files that are read
)

// names are the files of a folder, each with its mode.
func (h *Host) names(ctx context.Context, dir string) (map[string]string, error) {
	text, err := h.ask(ctx, fmt.Sprintf("cd -- %s && find . -xdev -maxdepth %d -type f -printf '%%m %%P\\n' | head -n %d", quote(dir), maxDepth, maxNames+1))
	if err != nil {
		return nil, err
	}

	names := map[string]string{}
	for line := range strings.Lines(text) {
		if mode, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && bundle.BadPath("/"+name) == "" {
			names[name] = mode
		}
	}

	if len(names) > maxNames {
		return nil, fmt.Errorf("%s on %s has more than %d files: move its data to a folder elsewhere, or adopt it by hand", dir, h.Name, maxNames)
	}

	return names, nil
}

var errLarge = errors.New("it is larger than 256 KiB")

// read is one file.
func (h *Host) read(ctx context.Context, file string) ([]byte, error) {
	text, err := h.ask(ctx, fmt.Sprintf("head -c %d -- %s", compose.MaxFile+1, quote(file)))
	if err == nil && len(text) > compose.MaxFile {
		err = errLarge
	}
	if err != nil {
		return nil, fmt.Errorf("read %s on %s: %w", file, h.Name, err)
	}
	return []byte(text), nil
}

// within is a file as a name below one of dirs.
func within(file string, dirs ...string) (string, bool) {
	file = path.Clean(file)
	for _, d := range dirs {
		if name, ok := strings.CutPrefix(file, d+"/"); ok {
			return name, true
		}
	}

	return "", false
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
