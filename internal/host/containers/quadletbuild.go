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
	Limit    time.Duration           // of one build; 0 is bundle.MaxStart: its unit has no longer
	Event    func(step, text string) // hears of each build
	Root     string                  // of the host's files
	// Files are those of the run, by their path on the host: they are not there yet.
	Files map[string]Waiting
	// Keys are the paths of the keys of the run, which are not there yet either.
	Keys []string
	// Logins is where the unit finds logins at registries; LoginsNow is where they are now. Both "" without.
	Logins, LoginsNow string
}

// A Waiting file is one that a run is going to put in place.
type Waiting struct {
	Mode fs.FileMode
	Size int64 // bytes
	Read func() []byte
}

// Build builds the .build quadlets of names, one by one, as podman's own generator says. A build that would not find
// here what it finds in its unit is left to that.
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
	unit string // "app-build.service"
	left string // why only the unit can build it; "" where that is not known
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
		title, unit, _ := strings.Cut(part, "\n")
		file := unitfile.Parse([]byte(unit))
		u := &unitfile.Unit{}
		u.Add(file)
		source := path.Base(u.Value("Unit", "SourcePath"))
		words, err := unitfile.CommandWords(u.Value("Service", "ExecStart"))
		if _, kind := unitfile.SplitName(source); kind == "build" && err == nil && len(words) > 2 {
			all[source] = buildCommand{words, u.Value("Service", "WorkingDirectory"), strings.TrimSuffix(title, "---"), leftTo(u, file)}
		}
	}
	return all
}

// plainKeys are the keys of [Service] that change nothing of what a build meets.
const plainKeys = " ExecStart WorkingDirectory Type RemainAfterExit SyslogIdentifier Restart RestartSec ExecStartPost TimeoutSec TimeoutStartSec TimeoutStopSec "

// leftTo is why only its unit can build something: it sets more than the command, or waits for what the run may not have brought yet.
func leftTo(u *unitfile.Unit, file *unitfile.File) string {
	for _, a := range file.Assignments {
		if a.Section == "Service" && a.Value != "" && !strings.Contains(plainKeys, " "+a.Key+" ") {
			return "its [Service] has " + plain.Text(a.Key, maxSaid) + "="
		}
	}
	if len(u.Values("Service", "ExecStart")) > 1 {
		return "its [Service] has several ExecStart="
	}

	for _, other := range u.Words("Unit", "After") {
		if path.Ext(other) != ".target" {
			return "it comes after " + plain.Text(other, maxSaid)
		}
	}
	return ""
}

// hasDropIn says that files beside the generated unit change it.
func (b *Builder) hasDropIn(unit string) bool {
	dir := path.Join(bundle.UnitDir, unit+".d")
	there, _ := os.ReadDir(filepath.Join(b.Root, dir))
	return len(there) > 0 || b.holds(dir)
}

func (b *Builder) one(ctx context.Context, name string, c buildCommand) error {
	c, err := b.here(c)
	if err != nil {
		return err
	}
	if c.left != "" {
		b.Event("build", name+" is built when its unit starts: "+c.left)
		return nil
	}

	b.Event("build", name)
	began := time.Now()
	limit := b.Limit
	if limit == 0 {
		limit = bundle.MaxStart
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

// here has a command read the files of the run where they wait. What it returns is left to its unit where that can't be done:
// a specifier of systemd is in it, say, or a folder of it holds files of others too.
func (b *Builder) here(c buildCommand) (buildCommand, error) {
	if c.left == "" && b.hasDropIn(c.unit) {
		c.left = "its unit has a drop-in"
	}
	if c.left != "" {
		return c, nil
	}

	c.argv = untagged(c.argv)
	words := append([]*string{&c.dir}, pointers(c.argv[1:])...)
	for _, w := range words {
		at := strings.Replace(*w, b.quadletsIn(), bundle.QuadletDir, 1)
		switch {
		case b.Logins != "" && at == b.Logins:
			*w = b.LoginsNow
		case b.namesKey(at):
			c.left = "it reads a key, which is not there before"
			return c, nil
		case strings.Contains(at, "%") || b.holdsPart(at):
			c.left = "its options can't be tried elsewhere"
			return c, nil
		case !b.holds(at):
		case !b.isWhole(at):
			c.left = "its context holds more than files of the repo"
			return c, nil
		case b.sizeOf(at) > maxContext:
			c.left = "its context is too large to be copied"
			return c, nil
		default:
			if err := b.write(at); err != nil {
				return c, err
			}
			*w = filepath.Join(b.Scratch, "files", at)
		}
	}

	return c, nil
}

// maxContext is the most that is copied of the run's files for one build, bytes: the copy is in RAM.
const maxContext = 64 << 20

// sizeOf is the size of all files of the run at a path and below it.
func (b *Builder) sizeOf(at string) (n int64) {
	for p, f := range b.Files {
		if isAt(p, at) {
			n += f.Size
		}
	}
	return n
}

// untagged is a command of podman without the names that it gives to the image: those are the business of the unit, when
// nothing refuses the run any more. A container that is started again before that gets the image of before.
func untagged(argv []string) (words []string) {
	for i := 0; i < len(argv); i++ {
		switch {
		case argv[i] == "--tag" || argv[i] == "-t":
			i++
		case strings.HasPrefix(argv[i], "--tag="):
		default:
			words = append(words, argv[i])
		}
	}
	return words
}

// parts are what an option or a mount may name within a word.
func parts(word string) []string {
	return strings.FieldsFunc(word, func(r rune) bool { return r == '=' || r == ':' || r == ',' })
}

// namesKey says that a word names a key of the run, or a folder of one.
func (b *Builder) namesKey(word string) bool {
	return slices.ContainsFunc(parts(word), func(part string) bool {
		return slices.ContainsFunc(b.Keys, func(key string) bool { return isAt(key, part) })
	})
}

// holdsPart says that a word names files of the run within an option or a mount.
func (b *Builder) holdsPart(word string) bool {
	all := parts(word)
	return len(all) > 1 && slices.ContainsFunc(all, b.holds)
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

// isAt says that p is at a path or below it. Podman takes paths as they are written, with a slash behind them too.
func isAt(p, at string) bool {
	dir := path.Clean(at)
	return path.IsAbs(at) && (p == dir || owned.Below(p, dir))
}

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
