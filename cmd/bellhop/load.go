package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/confine"
	"bellhop/internal/fleet"
)

// loadVerb is the word that makes this program the process that loads a tree: server, deploy, plan and
// check start it by themselves.
const loadVerb = "load"

// serveLoader is all that such a process does.
func serveLoader(args []string, stderr io.Writer) int {
	in, err := confine.Enter(args)
	if err == nil {
		err = fleet.ServeLoader(in)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitError
	}
	return 0
}

// loadFlags bound the loading of a tree.
type loadFlags struct {
	timeout time.Duration
	memory  byteSize
}

func (f *loadFlags) flags(c *cobra.Command) {
	f.memory = fleet.DefaultMemory
	c.Flags().DurationVar(&f.timeout, "load-timeout", fleet.DefaultTimeout, "how long reading and checking one commit may take")
	c.Flags().Var(&f.memory, "load-memory", "how much memory reading one commit may take")
}

// loader is a loader whose work is done by a process that can do nothing else.
func (f *loadFlags) loader() *fleet.Loader {
	return &fleet.Loader{Confined: &confine.Config{Argv: []string{thisProgram(), loadVerb}, Name: "bellhop", Memory: int64(f.memory)}, Timeout: f.timeout}
}

// context bounds what is looked at beside the loader, by the same time.
func (f *loadFlags) context(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := cmp.Or(f.timeout, fleet.DefaultTimeout)
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("it takes longer than %v, the limit of --load-timeout", limit))
}

// doctorLoader starts a process that loads, and says what it can't reach here.
func doctorLoader(ctx context.Context) symptom {
	s := symptom{what: "loader"}
	l := (&loadFlags{memory: fleet.DefaultMemory}).loader()
	defer l.Close()

	reaches, err := l.Reaches(ctx)
	switch {
	case err != nil:
		s.err = hint(fmt.Errorf("the process that reads commits does not start: %w", err), "a sandbox that bellhop runs in may keep it from starting itself")
	case len(reaches) > 0:
		s.note = fmt.Sprintf("commits are read by a process of its own, which can reach %s: seccomp is not to be had here", strings.Join(reaches, ", "))
	default:
		s.note = "commits are read by a process that reaches no files, no sockets and no programs"
	}

	return s
}

// thisProgram is the path by which this program is started again: the very same file, even when
// another was installed in its place since.
func thisProgram() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	if exe, err := os.Executable(); err == nil {
		return exe
	}
	return os.Args[0]
}

// A byteSize is a flag's number of bytes: 512MiB, 2GiB, 800000000.
type byteSize int64

// leastMemory is what the runtime itself needs to begin.
const leastMemory = 128 << 20

func (b *byteSize) String() string {
	switch {
	case *b != 0 && *b%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", *b>>30)
	case *b%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", *b>>20)
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Set reads a size.
func (b *byteSize) Set(s string) error {
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}} {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.size
			break
		}
	}

	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<50/unit {
		return fmt.Errorf("want a size, as in 512MiB or 2GiB")
	}
	if n*unit < leastMemory {
		return fmt.Errorf("want at least %dMiB", leastMemory>>20)
	}

	*b = byteSize(n * unit)
	return nil
}

// Type is the word that help shows.
func (b *byteSize) Type() string { return "size" }
