package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
)

// An Env is what one command sees of the world around it: tests give it their own. Verbs are functions
// that take it; its methods are what they share.
type Env struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// OSEnv is the Env of this process.
func OSEnv() *Env {
	return &Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
}

// Run runs the command that Args name, and returns the exit code. A command that went well and whose
// output was lost, as on a full disk, did not.
func (e *Env) Run(ctx context.Context) int {
	out, errs := newOutput(e.Stdout), newOutput(e.Stderr)
	e.Stdout, e.Stderr = out, errs
	defer func() { e.Stdout, e.Stderr = out.Writer, errs.Writer }()

	code := e.run(ctx)
	isLost := out.failed() != nil && !out.hasColour // whoever closes a terminal knows it
	if isLost && code == 0 {
		return e.report(fmt.Errorf("write the output: %w", out.failed()))
	}
	return code
}

func (e *Env) run(ctx context.Context) int {
	root := rootCmd(e)
	root.SetArgs(e.Args)
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	return e.report(root.ExecuteContext(ctx))
}

// Exit codes, a contract.
const (
	exitError   = 1 // the command could not do it
	exitChanges = 2 // plan --exit-code found changes
	exitHosts   = 3 // some hosts failed, were rolled back, held or unreachable
	exitRefused = 4 // paused, prune guard, rewritten or untrusted history

	exitInterrupted = 130 // ssh, exec and logs, ended by a signal as the command there would be
)

// A codeError ends the program with a code of its own. A nil err says nothing more: the
// command has told its story already.
type codeError struct {
	code int
	err  error
}

func (c *codeError) Error() string {
	if c.err == nil {
		return fmt.Sprintf("exit %d", c.code)
	}
	return c.err.Error()
}

func (c *codeError) Unwrap() error { return c.err }

// exit ends the command with code and no further word.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return &codeError{code: code}
}

// A hintError carries the next thing to type.
type hintError struct {
	error
	hint string
}

func (h *hintError) Unwrap() error { return h.error }

// hint adds the next thing to type to err.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// report tells what went wrong, and returns the exit code.
func (e *Env) report(err error) int {
	if err == nil {
		return 0
	}

	code := exitError
	var c *codeError
	if errors.As(err, &c) {
		code = c.code
	}
	if c == nil || c.err != nil {
		e.tell(err)
	}

	return code
}

func (e *Env) tell(err error) {
	p := e.errPaint()
	fmt.Fprintf(e.Stderr, "%s %s\n", p.red("bellhop:"), textOf(err))
	if h := hintFor(err); h != "" {
		fmt.Fprintf(e.Stderr, "%s %s\n", p.cyan("hint:"), h)
	}
}

// hintFor finds the hint that err carries, or one that its kind suggests.
func hintFor(err error) string {
	var h *hintError
	var key *link.HostKeyError
	var sealed *agefile.OpenError
	var private *privatefile.Error
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &key) && key.Line != "":
		return fmt.Sprintf("if you know why it changed, pin the new one in bellhop.yaml: host_key: %s", key.Line)
	case errors.As(err, &private):
		return private.Fix
	case errors.Is(err, link.ErrAuth):
		return "bellhop host add NAME USER@ADDRESS lets the deployer in; on your own machine your agent and ~/.ssh are tried"
	case errors.Is(err, link.ErrSudo):
		return "let that user run sudo without a password, or log in as root (user: root)"
	case errors.Is(err, history.ErrDamaged), errors.Is(err, history.ErrNewer):
		return "what was deployed is asked of the hosts: move bellhop.db out of the state directory, with bellhop.db-wal and bellhop.db-shm, and start again"
	case errors.As(err, &sealed) && sealed.Class != agefile.NoMatch: // that one says it itself
		return sealed.Hint()
	}

	return ""
}

// usage marks a mistake in the command line itself.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return hint(fmt.Errorf(format, args...), "%s --help", cmd.CommandPath())
}

// fromEnv sets every flag that the command line left alone from BELLHOP_FLAG, and those
// that name a file with a secret also from BELLHOP_FLAG_FILE.
func (e *Env) fromEnv(flags *pflag.FlagSet) error {
	var errs []error
	server := flags.Lookup("server")
	isRemote := server != nil && (server.Changed || e.Getenv(envName("server")) != "") // files are there, not here
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			errs = append(errs, checkFlag(f, isRemote, "--"+f.Name, typedValues(f)...))
			return
		}

		if f.Name == "help" {
			return
		}

		name := envName(f.Name)
		v := e.Getenv(name)
		if v == "" && f.Annotations[secretFile] != nil {
			name += "_FILE"
			v = e.Getenv(name)
		}

		if v == "" {
			return
		}

		if err := checkFlag(f, isRemote, name, envValues(f, v)...); err != nil {
			errs = append(errs, err)
			return
		}

		if err := flags.Set(f.Name, v); err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", name, err))
		}

		f.Changed = false // it tells what was typed
	})
	return errors.Join(errs...)
}

// secretFile annotates a flag that names a file with a secret in it.
const secretFile = "bellhop_secret_file"

func envName(flag string) string {
	return "BELLHOP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// secretEnv reads a secret that has no flag, since a command line is no place for one: the
// value of NAME, or the content of the file that NAME_FILE names, less one trailing newline. A
// file must be closed to others; a pipe, as a shell's <(…) is, has no name that they could open.
func (e *Env) secretEnv(name string) (string, error) {
	if v := e.Getenv(name); v != "" {
		return v, nil
	}

	path := e.Getenv(name + "_FILE")
	if path == "" {
		return "", nil
	}
	if err := checkSecretPath(name+"_FILE", path); err != nil {
		return "", err
	}

	b, err := privatefile.Read(path)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}

	return strings.TrimSuffix(string(b), "\n"), nil
}
