package nixos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bellhop/internal/child"

	"bellhop/internal/nixos/nixtree"
)

// A failed is a program of Nix that did not do what it was asked for.
type failed struct {
	what   string
	code   int  // its exit code; -1: it has none
	killed bool // by a signal that is not ours
	late   bool // its time was over
}

func (f *failed) Error() string { return f.what }

// statistics are what Nix tells of an evaluation.
type statistics struct {
	GC struct {
		HeapSize int64 `json:"heapSize"`
	} `json:"gc"`
}

// trees is where sources are written to.
func (n *Nix) trees() string { return filepath.Join(n.Dir, "trees") }

// An evaluation of a function on a source.
type evaluation struct {
	function, mark string
	written        *nixtree.Written
	asks           []Ask
}

// evaluate runs e, whose value goes to out as JSON.
func (n *Nix) evaluate(ctx context.Context, e evaluation, out io.Writer, each func(logLine)) (statistics, *failed) {
	log := func(r io.Reader) { _ = readLog(r, each) }
	if n.hasWorker() {
		return n.evaluateApart(ctx, e, out, log)
	}
	return n.evaluateExpr(ctx, call(e.function, e.mark, e.written, e.asks), n.timeout(), out, log)
}

// evaluateExpr evaluates an expression in a process of this user.
func (n *Nix) evaluateExpr(ctx context.Context, expr string, limit time.Duration, out io.Writer, log func(io.Reader)) (statistics, *failed) {
	var s statistics
	if err := os.MkdirAll(n.trees(), 0o700); err != nil {
		return s, &failed{what: err.Error(), code: -1}
	}
	own, rerr := os.MkdirTemp(n.trees(), "stats-") // others may evaluate at the same time
	if rerr != nil {
		return s, &failed{what: rerr.Error(), code: -1}
	}
	defer os.RemoveAll(own)
	stats := filepath.Join(own, "stats.json")
	args := []string{"--extra-experimental-features", "nix-command flakes", "--log-format", "internal-json", "eval", "--json",
		"--option", "accept-flake-config", "false", "--option", "allow-import-from-derivation", strconv.FormatBool(n.ImportFromDerivation),
		"--expr", expr}
	if n.CutOff {
		args = append([]string{"--offline"}, args...)
	}
	err := n.runLogged(ctx, limit, "nix", args, []string{"NIX_SHOW_STATS=1", "NIX_SHOW_STATS_PATH=" + stats}, out, log)

	if b, rerr := os.ReadFile(stats); rerr == nil {
		_ = json.Unmarshal(b, &s) // without it the cost of a host stays what it was
	}

	return s, err
}

// realise builds derivations, as many as can be built.
func (n *Nix) realise(ctx context.Context, drvs []string, each func(logLine)) *failed {
	log := func(r io.Reader) { _ = readLog(r, each) }
	if n.hasWorker() {
		return n.realiseApart(ctx, drvs, log)
	}
	return n.realiseLocally(ctx, drvs, n.buildTimeout(), log)
}

func (n *Nix) realiseLocally(ctx context.Context, drvs []string, limit time.Duration, log func(io.Reader)) *failed {
	args := append([]string{"-r", "--keep-going", "--log-format", "internal-json"}, drvs...)
	return n.runLogged(ctx, limit, "nix-store", args, nil, nil, log)
}

// run runs one program of Nix to its end, and hands on the lines of its log. A nil out drops what it prints.
func (n *Nix) run(ctx context.Context, name string, args, env []string, out io.Writer, each func(logLine)) *failed {
	return n.runLogged(ctx, n.timeout(), name, args, env, out, func(r io.Reader) { _ = readLog(r, each) })
}

// runLogged is run with a limit of its own, and a log that reads what the program says to its end.
func (n *Nix) runLogged(ctx context.Context, limit time.Duration, name string, args, env []string, out io.Writer, log func(io.Reader)) *failed {
	ctx, cancel := within(ctx, limit)
	defer cancel()
	cmd, err := n.command(ctx, name, args, env)
	if err != nil {
		return &failed{what: err.Error(), code: -1}
	}

	cmd.Stdout = out
	said, err := cmd.StderrPipe()
	if err != nil {
		return &failed{what: err.Error(), code: -1}
	}
	if n.Started != nil {
		n.Started(cmd.Args)
	}
	start := cmd.Start
	if n.CutOff {
		cutOff(cmd)
		start = func() error { return startCutOff(cmd) }
	}
	if err := start(); err != nil {
		return &failed{what: fmt.Sprintf("start %s: %v", name, err), code: -1}
	}

	log(said)
	return ended(ctx, name, cmd.Wait())
}

// command is a program of Nix in a process group of its own, which the end of ctx ends as a whole.
func (n *Nix) command(ctx context.Context, name string, args, env []string) (*exec.Cmd, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}

	cache := filepath.Join(n.Dir, "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}

	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(child.Env(nil), "XDG_CACHE_HOME="+cache)
	if os.Getenv("HOME") == "" {
		cmd.Env = append(cmd.Env, "HOME="+cache)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd, nil
}

func ended(ctx context.Context, name string, err error) *failed {
	if err == nil {
		return nil
	}

	f := &failed{what: fmt.Sprintf("%s: %v", name, err), code: -1}
	if exit, ok := err.(*exec.ExitError); ok {
		f.code = exit.ExitCode()
		status, is := exit.Sys().(syscall.WaitStatus)
		f.killed = is && status.Signaled() && ctx.Err() == nil
	}

	if ctx.Err() != nil {
		f.what, f.late = fmt.Sprintf("%s: %v", name, context.Cause(ctx)), true
	}

	return f
}

// output is what a program of Nix prints.
func (n *Nix) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	var errs tail
	if err := n.run(ctx, name, args, nil, &out, func(l logLine) { errs.add(l.text()) }); err != nil {
		return out.Bytes(), &Failure{Text: fmt.Sprintf("%s: %s", name, firstNonEmpty(headline(errs.lines), err.Error())), Lines: errs.lines}
	}
	return out.Bytes(), nil
}

// What an evaluation needs of memory.
const (
	defaultCost = 1 << 30 // bytes for one host, until an evaluation has told
	leastCost   = 64 << 20
	reserve     = 1 << 30 // that stay free
)

// chunk is how many of n hosts fit into memory at once.
func (n *Nix) chunk(hosts int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	cost := max(n.remembered().Cost, leastCost)
	if n.memory.Cost == 0 {
		cost = defaultCost
	}
	free := n.free() - reserve
	return int(min(max(free/cost, 1), int64(hosts)))
}

// learnCost notes what one host of an evaluation took.
func (n *Nix) learnCost(bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remembered().Cost = bytes
}

func (n *Nix) free() int64 {
	if n.Memory != nil {
		return n.Memory()
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 4 << 30
	}
	return memAvailable(string(text))
}

// memAvailable is MemAvailable of /proc/meminfo, in bytes.
func memAvailable(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 4 << 30
}
