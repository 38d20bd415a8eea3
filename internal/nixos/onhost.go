package nixos

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/internal/nixos/nixtree"
)

// A host may build its system itself: it is given the derivation, with all that this needs, and has no business with the
// repo. Where the deployer has no Nix at all, the host evaluates too, and is given the tree that Nix sees.
//
// Whoever evaluates says which keys a system has. A host that evaluates could so ask for the keys of others, or have a
// command run on the deployer: the keys of such an evaluation are refused.

// A Shell runs one command on a host, as root, and returns its exit code.
type Shell func(ctx context.Context, cmd string, in io.Reader, out, errs io.Writer) (code int, err error)

// Names of roots on the host beside NextRoot.
const derivationRoot = "/nix/var/nix/gcroots/bellhop/" + DerivationRoot

// DerivationRoot is the name of the root that keeps the derivation that a host built last, and what it needs: it is
// built from once more where the same system is to come back.
const DerivationRoot = "derivation"

// farPath has commands on a host find Nix.
const farPath = "PATH=$PATH:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin; export PATH; "

// Exit codes of the commands below, beside those of Nix.
const (
	farNoDerivation = 66
	farNoNix        = 127
)

// Bring has the system at path on a host, whole. onHost says that the host builds it. Where that fails, the error is a
// *Failure.
func (n *Nix) Bring(ctx context.Context, path string, onHost bool, sh Shell) (Copied, error) {
	copyTo := func(path string) (Copied, error) {
		return n.Copy(ctx, path, func(ctx context.Context, in io.Reader, out, errs io.Writer) (int, error) {
			return sh(ctx, ServeCommand(path), in, out, errs)
		})
	}
	if !onHost {
		return copyTo(path)
	}
	if !IsStorePath(path) {
		return Copied{}, fmt.Errorf("build %q: it is no store path", path)
	}

	code, err := sh(ctx, haveCommand(path), nil, io.Discard, io.Discard)
	if err != nil || code == 0 {
		return Copied{}, err
	}
	s, ok := n.systemAt(path)
	if !ok {
		return Copied{}, &Failure{Text: fmt.Sprintf("%s is not on the host, and what it was built from is not known any more", path)}
	}

	var copied Copied
	if !s.There {
		if copied, err = copyTo(s.Drv); err != nil {
			return copied, err
		}
	}

	return copied, n.buildOnHost(ctx, s, sh)
}

// systemAt is the system that was evaluated to path.
func (n *Nix) systemAt(path string) (System, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.remembered().Results
	i := slices.IndexFunc(all, func(e rememberedEntry) bool { return e.System.Out == path && e.System.Drv != "" })
	if i < 0 {
		return System{}, false
	}

	return all[i].System, true
}

// DryActivateCommand says what going over to a system would do. It runs as root on a host that has the system.
func DryActivateCommand(path string) string {
	return farPath + "export HOME=/root; exec " + path + "/bin/switch-to-configuration dry-activate 2>&1"
}

// haveCommand ends with 0 where the system is there, which stays until the run is over.
func haveCommand(path string) string {
	return farPath + "mkdir -p " + filepath.Dir(NextRoot) + " && ln -sfn " + path + " " + NextRoot + " && exec nix-store --check-validity " + path + " 2>/dev/null"
}

// buildCommand builds a system. What Nix ends with does not say whether the system is there, so that is asked.
func buildCommand(s System) string {
	return farPath + "ln -sfn " + s.Drv + " " + derivationRoot + " && ln -sfn " + s.Out + " " + NextRoot + " || exit 1; " +
		fmt.Sprintf("nix-store --check-validity %s 2>/dev/null || exit %d; ", s.Drv, farNoDerivation) +
		"HOME=/root nix-store -r --keep-going --log-format internal-json " + s.Drv + " >/dev/null; code=$?; " +
		"nix-store --check-validity " + s.Out + " 2>/dev/null && exit 0; test $code -ne 0 && exit $code; exit 1"
}

// buildOnHost has the host build a system whose derivation it has.
func (n *Nix) buildOnHost(ctx context.Context, s System, sh Shell) error {
	ctx, cancel := within(ctx, n.buildTimeout())
	defer cancel()
	b := &buildLog{drv: map[uint64]string{}, lines: map[string]*tail{}}
	log, heard := logWriter(b.line)
	code, err := sh(ctx, buildCommand(s), nil, io.Discard, log)
	heard()

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case code == 0:
		return nil
	case code == farNoDerivation:
		n.forget(s)
		return &Failure{Text: "the host's garbage collector took the derivation: deploy once more with --retry, and it is evaluated anew"}
	}

	for _, drv := range slices.Sorted(maps.Keys(b.failed)) {
		return &Failure{Text: "can't be built on the host: " + b.failed[drv], Lines: b.lines[drv].lines}
	}

	text := firstNonEmpty(headline(b.errs.lines), fmt.Sprintf("nix-store ended with code %d", code))
	return &Failure{Text: "can't be built on the host: " + text, Lines: b.errs.lines}
}

// logWriter reads a log of Nix that is written to w. heard returns once all of it was.
func logWriter(each func(logLine)) (w io.Writer, heard func()) {
	r, pipe := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = readLog(r, each)
		_, _ = io.Copy(io.Discard, r) // a program whose log nobody takes would stop
	}()

	return pipe, func() {
		pipe.Close()
		<-done
	}
}

// EvaluateOnHost has a host evaluate its own system, from the tree that Nix sees, which is in the host's RAM until the
// evaluation is over. What it came to is remembered. The error is that the host could not be asked.
func (n *Nix) EvaluateOnHost(ctx context.Context, s *nixtree.Source, a Ask, sh Shell) (System, error) {
	key := n.askKey(s, a)
	if known, ok := n.recall(key); ok {
		return known, nil
	}
	w, remove, err := s.Write(n.trees())
	if err != nil {
		return System{}, err
	}
	defer remove()

	sys, err := n.evaluateOnHost(ctx, w, a, sh)
	if err != nil {
		return System{}, err
	}
	if sys.passing {
		return sys, nil
	}

	return sys, n.keep([]rememberedEntry{{key, sys}})
}

func (n *Nix) evaluateOnHost(ctx context.Context, w *nixtree.Written, a Ask, sh Shell) (System, error) {
	ctx, cancel := within(ctx, n.timeout())
	defer cancel()
	var word [8]byte
	rand.Read(word[:])
	dir := "/run/bellhop-nix-" + hex.EncodeToString(word[:])
	m, there := newMarks(), *w
	there.Dir = dir + "/tree"
	expr := call(systemsExpr, m.word, &there, []Ask{a})

	in, sending := io.Pipe()
	go func() {
		_, err := io.WriteString(sending, expr)
		if err == nil {
			err = nixtree.WriteNAR(sending, w.Dir)
		}
		sending.CloseWithError(err)
	}()

	log, heard := logWriter(m.line)
	code, err := sh(ctx, evaluateCommand(dir, len(expr), n.ImportFromDerivation), in, io.Discard, log)
	in.Close()
	heard()

	switch {
	case ctx.Err() != nil:
		return System{}, context.Cause(ctx)
	case err != nil:
		return System{}, err
	}

	return m.outcome(a, code), nil
}

// outcome is what the evaluation of one host by itself came to.
func (m *marks) outcome(a Ask, code int) System {
	s, done := m.done[a.Host]
	switch {
	case done && code == 0 && len(s.Keys) > 0:
		return System{Err: "its deployment.keys can't be told by the host itself, which could so ask for the keys of others: bring its keys by a service of bellhop.yaml, or run the deployer where Nix is"}
	case done && code == 0:
		s.There = s.Err == ""
		return s
	case code == farNoNix:
		return System{Err: "neither the deployer nor the host has Nix", passing: true}
	}

	outOfMemory := slices.ContainsFunc(m.errs.lines, func(s string) bool { return strings.Contains(s, "out of memory") })
	text := firstNonEmpty(headline(m.errs.lines), fmt.Sprintf("nix ended with code %d on the host", code))
	return System{Err: text, Lines: m.errs.lines, passing: outOfMemory || code > 1}
}

// evaluateCommand evaluates the expression of so many bytes that comes first, and after it the tree as an archive of
// Nix. Both are in dir, which is removed at the end; /run is in RAM, so a host that loses its power has none of it left.
func evaluateCommand(dir string, expr int, importFromDerivation bool) string {
	return farPath + "umask 077; mkdir " + dir + " || exit 2; trap 'rm -rf " + dir + "' EXIT; trap 'exit 2' HUP INT TERM PIPE; " +
		fmt.Sprintf("head -c %d >%s/expr && nix-store --restore %s/tree || exit; ", expr, dir, dir) +
		"HOME=/root nix --extra-experimental-features 'nix-command flakes' --log-format internal-json eval --json " +
		fmt.Sprintf("--option accept-flake-config false --option allow-import-from-derivation %t --expr \"$(cat %s/expr)\"", importFromDerivation, dir)
}

// KeepDerivation keeps what a system is built from, elsewhere, from Nix's garbage collector, until Keep names other paths.
func (n *Nix) KeepDerivation(ctx context.Context, s System) error {
	if n.isKept(s.Drv) {
		return nil
	}
	return n.addRoot(ctx, s.Drv, "nix-instantiate", "-E", "import "+s.Drv)
}

// forget has a system evaluated again.
func (n *Nix) forget(s System) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.remembered()
	m.Results = slices.DeleteFunc(m.Results, func(e rememberedEntry) bool { return e.System.Drv == s.Drv })
}
