package containers

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/plain"
	"bellhop/internal/unitfile"
)

// A Builder builds what .build files say while all runs that runs. The unit of a .build builds whenever it starts;
// after this it finds all layers there.
type Builder struct {
	Programs machine.Programs
	Scratch  string                  // a folder that only root can enter
	Env      []string                // of each build, beside the usual
	Limit    time.Duration           // of one build; 0 is PullTime
	Event    func(step, text string) // hears of each build
	Root     string                  // of the host's files
	// Files are those of the run, by their path on the host: they are not there yet.
	Files map[string]Waiting
	// Logins is where the unit finds logins at registries; LoginsNow is where they are now. Both "" without.
	Logins, LoginsNow string
}

// A Waiting file is one that a run is going to put in place.
type Waiting struct {
	Mode fs.FileMode
	Read func() []byte
}

// Build builds the .build quadlets of names, one by one, as podman's own generator says. A build whose context holds
// files of others beside those of the run is left to its unit.
func (b *Builder) Build(ctx context.Context, q Quadlets, names []string) map[string]error {
	commands, err := b.commands(ctx, q)
	failed := map[string]error{}
	for _, name := range names {
		c, has := commands[name]
		if err == nil && !has {
			continue // the generator refuses it, which is told elsewhere
		}
		one := err
		if one == nil {
			one = b.one(ctx, name, c)
		}
		if one != nil {
			failed[name] = one
		}
	}
	return failed
}

// A buildCommand is what the unit of a .build runs.
type buildCommand struct {
	argv []string
	dir  string // working directory; "" is /
}

// quadletsIn is where the generator is shown the quadlets as they will be.
func (b *Builder) quadletsIn() string { return filepath.Join(b.Scratch, "quadlets") }

// commands asks the generator what the units of all .build files will run. The folder that it reads stays, since a
// build may take its context from there.
func (b *Builder) commands(ctx context.Context, q Quadlets) (map[string]buildCommand, error) {
	if err := q.write(b.quadletsIn()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := b.Programs.Run(ctx, machine.Program{Argv: []string{Generator, "--dryrun"}, Env: []string{"QUADLET_UNIT_DIRS=" + b.quadletsIn()}})
	if err != nil {
		return nil, fmt.Errorf("ask podman's generator how to build: %w", err)
	}
	return readBuilds(out.Stdout), nil
}

// readBuilds reads the units of .build files from what a dry run of the generator prints, by the name of the file.
func readBuilds(text string) map[string]buildCommand {
	all := map[string]buildCommand{}
	for _, part := range strings.Split("\n"+text, "\n---")[1:] {
		_, unit, _ := strings.Cut(part, "\n")
		u := unitfile.Read([]byte(unit))
		source := path.Base(u.Value("Unit", "SourcePath"))
		words, err := unitfile.CommandWords(u.Value("Service", "ExecStart"))
		if _, kind := unitfile.SplitName(source); kind == "build" && err == nil && len(words) > 2 {
			all[source] = buildCommand{words, u.Value("Service", "WorkingDirectory")}
		}
	}
	return all
}

func (b *Builder) one(ctx context.Context, name string, c buildCommand) error {
	c, isOurs, err := b.here(c)
	if err != nil || !isOurs {
		if err == nil {
			b.Event("build", name+" is built when its unit starts: its context holds more than files of the repo")
		}
		return err
	}

	b.Event("build", name)
	began := time.Now()
	limit := b.Limit
	if limit == 0 {
		limit = PullTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	out, err := b.Programs.Run(ctx, machine.Program{Argv: c.argv, Dir: c.dir, Env: b.Env})
	if err != nil || out.Exit != 0 {
		said := strings.ReplaceAll(out.Stderr, filepath.Join(b.Scratch, "files"), "")
		return buildFailure(name, said, err)
	}
	b.Event("built", fmt.Sprintf("%s in %v", name, time.Since(began).Round(100*time.Millisecond)))
	return nil
}

// buildFailure is what podman's words of a build mean: an image that it begins with may not have come.
func buildFailure(name, stderr string, err error) error {
	e := failure(name, stderr, err)
	if e.Cause != Other || err != nil {
		return e
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	return fmt.Errorf("build of %s: %s", name, plain.Text(strings.Join(lines[max(0, len(lines)-5):], "; "), maxSaid))
}

// here has a command read the files of the run where they wait. isOurs is false where that can't be done: a specifier
// of systemd is in it, or a folder of it holds files of others too.
func (b *Builder) here(c buildCommand) (_ buildCommand, isOurs bool, err error) {
	moved := buildCommand{slices.Clone(c.argv), c.dir}
	words := append([]*string{&moved.dir}, pointers(moved.argv[1:])...)
	for _, w := range words {
		at := strings.Replace(*w, b.quadletsIn(), bundle.QuadletDir, 1)
		switch {
		case b.Logins != "" && at == b.Logins:
			*w = b.LoginsNow
		case strings.Contains(at, "%") || b.holdsPart(at):
			return c, false, nil
		case !b.holds(at):
		case !b.isWhole(at):
			return c, false, nil
		default:
			if err := b.write(at); err != nil {
				return c, false, err
			}
			*w = filepath.Join(b.Scratch, "files", at)
		}
	}
	return moved, true, nil
}

// holdsPart says that a word names files of the run within an option or a mount.
func (b *Builder) holdsPart(word string) bool {
	parts := strings.FieldsFunc(word, func(r rune) bool { return r == '=' || r == ':' || r == ',' })
	return len(parts) > 1 && slices.ContainsFunc(parts, b.holds)
}

func pointers(words []string) (all []*string) {
	for i := range words {
		all = append(all, &words[i])
	}
	return all
}

// holds says that files of the run are at a path or below it.
func (b *Builder) holds(at string) bool {
	for p := range b.Files {
		if isAt(p, at) {
			return true
		}
	}
	return false
}

func isAt(p, at string) bool { return path.IsAbs(at) && (p == at || owned.Below(p, at)) }

// isWhole says that the host has nothing at a path but files of the run.
func (b *Builder) isWhole(at string) bool {
	root := filepath.Join(b.Root, at)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if _, ours := b.Files[path.Join(at, filepath.ToSlash(rel))]; !ours {
			return fs.ErrExist
		}
		return nil
	})
	return err == nil || os.IsNotExist(err)
}

// write writes the files of the run at a path, and below it, to the scratch folder, with the modes that they will have:
// what a build copies keeps them.
func (b *Builder) write(at string) error {
	for p, f := range b.Files {
		if !isAt(p, at) {
			continue
		}
		to := filepath.Join(b.Scratch, "files", p)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, f.Read(), 0o600); err != nil {
			return err
		}
		if err := os.Chmod(to, f.Mode); err != nil {
			return err
		}
	}
	return nil
}
