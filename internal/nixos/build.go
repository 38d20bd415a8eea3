package nixos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Build builds the systems, one for each host, in one process, and returns what can't be built: host to failure. A
// host that can't be built stops no other. What is built is kept from Nix's garbage collector until Keep names
// other paths. The error is one of Nix as a whole.
func (n *Nix) Build(ctx context.Context, systems map[string]System) (map[string]*Failure, error) {
	missing, failures := map[string]System{}, map[string]*Failure{}
	for host, s := range systems {
		switch broken := n.failureOf(s.Drv); {
		case broken != nil:
			failures[host] = broken
		case !n.isKept(s.Out):
			missing[host] = s
		}
	}

	if len(missing) == 0 {
		return failures, nil
	}

	b := &buildLog{drv: map[uint64]string{}, lines: map[string]*tail{}}
	failedRun := n.realise(ctx, derivations(missing), b.line)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	invalid, err := n.invalid(ctx, outs(missing))
	if err != nil {
		return nil, err
	}

	for host, s := range missing {
		switch {
		case invalid[s.Out]:
			failures[host] = n.whyNot(ctx, b, s.Drv, failedRun)
			n.noteBroken(s.Drv, failures[host])
		default:
			if err := n.root(ctx, s); err != nil {
				return failures, err
			}
		}
	}

	return failures, nil
}

// failureOf is how the derivation failed before; nil when it did not.
func (n *Nix) failureOf(drv string) *Failure {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken[drv]
}

func (n *Nix) noteBroken(drv string, f *Failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken == nil {
		n.broken = map[string]*Failure{}
	}
	n.broken[drv] = f
}

// ForgetFailures has what could not be evaluated or built tried again, although nothing differs.
func (n *Nix) ForgetFailures() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = nil
	m := n.remembered()
	m.Results = slices.DeleteFunc(m.Results, func(e rememberedEntry) bool { return e.System.Err != "" })
}

func derivations(systems map[string]System) []string {
	var all []string
	for _, s := range systems {
		all = append(all, s.Drv)
	}

	slices.Sort(all)
	return slices.Compact(all)
}

func outs(systems map[string]System) []string {
	var all []string
	for _, s := range systems {
		all = append(all, s.Out)
	}

	slices.Sort(all)
	return slices.Compact(all)
}

// invalid says which of the paths are not in the store. The exit code of a build alone does not tell.
func (n *Nix) invalid(ctx context.Context, paths []string) (map[string]bool, error) {
	out, err := n.output(ctx, "nix-store", append([]string{"--check-validity", "--print-invalid"}, paths...)...)
	if err != nil {
		return nil, err
	}

	invalid := map[string]bool{}
	for p := range strings.Lines(string(out)) {
		invalid[strings.TrimSpace(p)] = true
	}

	return invalid, nil
}

// whyNot finds what of a build failed that the derivation needs, and the end of its log.
func (n *Nix) whyNot(ctx context.Context, b *buildLog, drv string, run *failed) *Failure {
	needs, err := n.output(ctx, "nix-store", "-qR", drv)
	if err == nil {
		for p := range strings.Lines(string(needs)) {
			name := strings.TrimSpace(p)
			if t := b.lines[name]; t != nil && b.failed[name] != "" {
				return &Failure{Text: "can't be built: " + b.failed[name], Lines: t.lines}
			}
		}
	}

	text := firstNonEmpty(headline(b.errs.lines), "nix-store did not build it")
	if run != nil && b.errs.lines == nil {
		text = run.Error()
	}

	return &Failure{Text: "can't be built: " + text, Lines: b.errs.lines}
}

// A buildLog reads the log of a build: the last lines of each derivation.
type buildLog struct {
	drv    map[uint64]string // by activity
	lines  map[string]*tail  // by derivation
	failed map[string]string // derivations that failed, and how
	errs   tail
}

func (b *buildLog) line(l logLine) {
	switch {
	case l.Action == "start" && l.Type == activityBuild && len(l.Fields) > 0:
		drv := ""
		if json.Unmarshal(l.Fields[0], &drv) == nil && IsStorePath(drv) {
			b.drv[l.ID], b.lines[drv] = drv, &tail{}
		}
	case l.Action == "result" && l.Type == resultLine && len(l.Fields) > 0:
		text := ""
		if t := b.lines[b.drv[l.ID]]; t != nil && json.Unmarshal(l.Fields[0], &text) == nil {
			t.add(text)
		}
	case l.Action == "stop":
		delete(b.drv, l.ID)
	case l.Action == "msg" && l.Level == 0:
		text := l.text()
		b.errs.add(text)
		b.note(text)
	}
}

// note finds the derivation of which an error speaks.
func (b *buildLog) note(text string) {
	_, rest, found := strings.Cut(text, "builder for '")
	drv, how, closed := strings.Cut(rest, "'")
	if !found || !closed || !IsStorePath(drv) {
		return
	}

	how, _, _ = strings.Cut(how, ";")
	how, _, _ = strings.Cut(strings.TrimSpace(how), "\n")
	if b.failed == nil {
		b.failed = map[string]string{}
	}
	if b.lines[drv] == nil {
		b.lines[drv] = &tail{}
	}
	b.failed[drv] = strings.TrimSuffix(drv[len(StoreDir)+34:], ".drv") + ": builder " + how
}

// roots is where the links are that keep paths from Nix's garbage collector.
func (n *Nix) roots() string { return filepath.Join(n.Dir, "roots") }

func (n *Nix) rootOf(out string) string { return filepath.Join(n.roots(), filepath.Base(out)) }

// isKept says whether the path is in the store, and will stay there.
func (n *Nix) isKept(out string) bool {
	target, err := os.Readlink(n.rootOf(out))
	if err != nil || target != out {
		return false
	}

	_, err = os.Lstat(out)
	return err == nil
}

// root keeps a system that was built from Nix's garbage collector. It names the derivation, so that a system that was
// collected in the meantime is built once more.
func (n *Nix) root(ctx context.Context, s System) error {
	return n.addRoot(ctx, s.Out, "nix-store", "-r", s.Drv)
}

// addRoot has a program of Nix make the root of path.
func (n *Nix) addRoot(ctx context.Context, path, program string, args ...string) error {
	if err := os.MkdirAll(n.roots(), 0o700); err != nil {
		return err
	}

	os.Remove(n.rootOf(path)) // one that points elsewhere would be refused
	_, err := n.output(ctx, program, append([]string{"--add-root", n.rootOf(path), "--indirect"}, args...)...)
	return err
}

// Keep lets go of all systems that were built longer than age ago, but those: the garbage collector may have them.
func (n *Nix) Keep(outs []string, age time.Duration) error {
	entries, err := os.ReadDir(n.roots())
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		info, ierr := e.Info()
		isOld := ierr == nil && time.Since(info.ModTime()) >= age
		kept := slices.Contains(outs, filepath.Join(StoreDir, e.Name()))
		if err == nil && isOld && !kept {
			err = os.Remove(filepath.Join(n.roots(), e.Name()))
		}
	}

	if err != nil {
		return fmt.Errorf("let go of built systems: %w", err)
	}

	return nil
}
