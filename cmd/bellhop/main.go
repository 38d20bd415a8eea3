// Command bellhop turns git push into deployed machines.
//
// It parses the command line, wires packages together, and runs one command. Each file holds one group
// of verbs; what they share is env.go (streams, flags from the environment, exit codes),
// app.go (the wiring of packages) and paint.go (colour).
//
// The promise kept here: results go to stdout and everything else to stderr; an error says
// what was being done to what, and a hint says what to type next; exit codes are 0 done or
// nothing to do, 1 error, 2 plan --exit-code found changes, 3 some hosts did not get there,
// 4 refused.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"bellhop/internal/host/helper"
	"bellhop/internal/host/real"

	"bellhop/internal/nixos"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "host-helper" {
		os.Exit(hostHelper(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	if nixos.IsSSH() {
		os.Exit(nixos.SSH(os.Args[1:], os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == loadVerb {
		os.Exit(serveLoader(os.Args[2:], os.Stderr))
	}

	if len(os.Args) > 1 && os.Args[1] == nixos.WorkerVerb {
		os.Exit(nixos.Worker(os.Stdin, os.Stderr))
	}

	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup means it
		signals = append(signals, syscall.SIGHUP)
	}

	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second signal ends us at once
	code := OSEnv().Run(ctx)
	stop()
	os.Exit(code)
}

// hostHelper is the program that bellhop runs on a host, hidden in bellhop itself: a
// deployer of the same system and architecture pushes its own executable.
func hostHelper(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return helper.Main(args, stdin, stdout, stderr, real.Machine)
}
