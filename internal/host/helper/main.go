package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"bellhop/internal/host"
	"bellhop/internal/host/machine"
)

// Main is the helper's whole command line: serve, apply RUN, settle, version. It returns the
// exit code. open puts the real machine together.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, open func() (*machine.Machine, error)) int {
	// The line may be cut at any moment; that must not kill what is at work.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	syscall.Umask(0o022)
	collectLate()
	if err := helper(context.Background(), args, stdin, stdout, open); err != nil {
		fmt.Fprintln(stderr, "bellhop-host:", err)
		return 1
	}
	return 0
}

// collectLate lets a helper, which lives for a second, end without having collected garbage. One that is
// given much to hold collects as always.
func collectLate() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(64 << 20)
}

const usage = "usage: bellhop-host serve [ahead] | apply RUN | settle | version"

func helper(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer, open func() (*machine.Machine, error)) error {
	if len(args) > 0 && args[0] == machine.Hidden {
		args = args[1:]
	}
	if slices.Equal(args, []string{"version"}) {
		fmt.Fprintln(stdout, version())
		return nil
	}

	do := command(args, stdin, stdout)
	if do == nil {
		return errors.New(usage)
	}

	m, err := open()
	if err != nil {
		return err
	}
	defer m.Systemd.Close()

	return do(ctx, m)
}

// command is what the arguments ask for on a machine; nil when they make no sense.
func command(args []string, stdin io.Reader, stdout io.Writer) func(context.Context, *machine.Machine) error {
	verb, rest := "", args
	if len(args) > 0 {
		verb, rest = args[0], args[1:]
	}

	switch {
	case verb == "apply" && len(rest) == 1:
		return func(ctx context.Context, m *machine.Machine) error { return host.Apply(ctx, m, rest[0]) }
	case verb == "settle" && len(rest) == 0:
		return host.Settle
	case verb == "serve" && len(rest) == 0:
		return func(ctx context.Context, m *machine.Machine) error { return Serve(ctx, m, stdin, stdout) }
	case verb == "serve" && slices.Equal(rest, []string{"ahead"}):
		return func(ctx context.Context, m *machine.Machine) error { return ServeOptimistic(ctx, m, stdin, stdout) }
	}
	return nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
