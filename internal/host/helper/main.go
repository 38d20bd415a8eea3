package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
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
	if err := helper(context.Background(), args, stdin, stdout, open); err != nil {
		fmt.Fprintln(stderr, "bellhop-host:", err)
		return 1
	}
	return 0
}

const usage = "usage: bellhop-host serve [ahead] | apply RUN | settle | version"

func helper(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer, open func() (*machine.Machine, error)) error {
	verb := ""
	if len(args) > 0 && args[0] == machine.Hidden {
		args = args[1:]
	}
	if len(args) > 0 {
		verb = args[0]
	}

	switch {
	case verb == "version" && len(args) == 1:
		fmt.Fprintln(stdout, version())
		return nil
	case verb == "apply" && len(args) == 2, len(args) == 2 && verb == "serve" && args[1] == "ahead", (verb == "serve" || verb == "settle") && len(args) == 1:
	default:
		return errors.New(usage)
	}

	m, err := open()
	if err != nil {
		return err
	}
	defer m.Systemd.Close()

	switch verb {
	case "apply":
		return host.Apply(ctx, m, args[1])
	case "settle":
		return host.Settle(ctx, m)
	}

	return serve(ctx, m, stdin, stdout, len(args) == 2)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
