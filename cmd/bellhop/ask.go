package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bellhop/deploy/keys"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/child"
	"bellhop/internal/doctor"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/worktree"
	"bellhop/server"
)

// Asking a running server, over its socket here or the whole command line over ssh; and what
// the server answers. What both ends of the socket must agree on stands in this file.

// dial finds the server of a state directory; nil when none runs.
func dial(stateDir string) (*server.Client, error) {
	c, err := server.Dial(stateDir)
	switch {
	case errors.Is(err, server.ErrNoServer):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, hint(err, "the server's socket is its user's: sudo, or --server ssh://USER@BOX")
	}
	return c, err
}

// A planAnswer is a plan, as text for people and as JSON.
type planAnswer struct {
	Text    string          `json:"text"`
	JSON    json.RawMessage `json:"plan"`
	Changes bool            `json:"changes"`
}

type historyRequest struct {
	What  string `json:"what,omitempty"` // hosts, or ids of runs
	Limit int    `json:"limit"`

	Since    time.Time         `json:"since,omitzero"`
	Outcomes []history.Outcome `json:"outcomes,omitempty"`
}

type onRequest struct {
	On string `json:"on,omitempty"`
}

type rebootRequest struct {
	On      string `json:"on"`
	LimitMs int64  `json:"limit_ms"`
}

// verbs are what the server does for those on the socket. Who asks is what the kernel says.
func (s *serving) verbs() {
	h := s.app
	s.lookVerbs()
	server.Handle(s.server, "deploy", func(ctx context.Context, who server.Caller, in plan.Request, emit func(any)) (*history.Run, error) {
		in.By = who.String()
		return s.follow(ctx, s.bell.Do(in), emit)
	})
	server.Handle(s.server, "pause", func(ctx context.Context, who server.Caller, in pauseRequest, _ func(any)) (pauseAnswer, error) {
		return s.pause(ctx, who.String(), in)
	})
	server.Handle(s.server, "resume", func(ctx context.Context, who server.Caller, _ struct{}, _ func(any)) (resumeAnswer, error) {
		return s.resume(ctx, who.String())
	})
	server.Handle(s.server, "cancel", func(ctx context.Context, who server.Caller, _ struct{}, _ func(any)) (cancelAnswer, error) {
		return s.cancelRun(ctx, who.String())
	})
	s.holdVerbs()
	server.Handle(s.server, "plan", func(ctx context.Context, _ server.Caller, in plan.Request, _ func(any)) (planAnswer, error) {
		a, err := h.makePlan(ctx, planRequest{Request: in}, nil)
		return a, overSocket(err)
	})
	server.HandleLarge(s.server, "plan-of", worktree.MaxStream, func(ctx context.Context, _ server.Caller, in planRequest, tree []byte, _ func(any)) (planAnswer, error) {
		a, err := h.makePlan(ctx, in, tree)
		return a, overSocket(err)
	})
	server.Handle(s.server, "status", func(ctx context.Context, _ server.Caller, in onRequest, _ func(any)) (history.Status, error) {
		st, err := pickHosts(ctx, h.history, in.On)
		s.live(&st)
		return st, overSocket(err)
	})
	server.Handle(s.server, "services", func(ctx context.Context, _ server.Caller, in onRequest, _ func(any)) (serviceList, error) {
		list, err := deployedServices(ctx, h.history, in.On)
		return list, overSocket(err)
	})
	server.Handle(s.server, "history", func(ctx context.Context, _ server.Caller, in historyRequest, _ func(any)) (historyAnswer, error) {
		hist, err := pickRuns(ctx, h.history, in)
		return tellable(hist), overSocket(err)
	})
	server.Handle(s.server, "deliveries", func(ctx context.Context, _ server.Caller, in historyRequest, _ func(any)) ([]deliveries.Delivery, error) {
		return h.history.Deliveries(ctx, in.Limit)
	})
	server.Handle(s.server, "paste", func(context.Context, server.Caller, struct{}, func(any)) (pasting, error) {
		return s.pasting(), nil
	})
	server.Handle(s.server, "webhook", func(context.Context, server.Caller, struct{}, func(any)) (webhookAnswer, error) {
		return webhookAnswer{Address: s.address, Branch: s.branch, Repo: s.repo, SecretFile: s.secretFile, Forge: s.forge.kind, OtherRepo: s.server.OtherRepo()}, nil
	})
	server.Handle(s.server, "forge", func(context.Context, server.Caller, struct{}, func(any)) (forgeAnswer, error) {
		return s.forge.answer(), nil
	})
	server.Handle(s.server, "health", func(ctx context.Context, _ server.Caller, _ struct{}, _ func(any)) (doctor.Health, error) {
		return doctor.Read(ctx, h.history, h.state.dir, h.deployer.Ahead())
	})
	server.Handle(s.server, "key-push", func(ctx context.Context, who server.Caller, in onRequest, _ func(any)) ([]keys.HostKeys, error) {
		return h.pushKeys(ctx, who.String(), in.On)
	})
	server.Handle(s.server, "key-status", func(ctx context.Context, _ server.Caller, in onRequest, _ func(any)) ([]keys.HostKeys, error) {
		return h.deployer.Keys().Status(ctx, in.On)
	})
	server.Handle(s.server, "notify-test", func(ctx context.Context, _ server.Caller, in notifyRequest, _ func(any)) (struct{}, error) {
		return struct{}{}, overSocket(h.testTarget(ctx, in.Name))
	})
	server.Handle(s.server, "host-remove", func(ctx context.Context, _ server.Caller, in removeRequest, _ func(any)) (*bundle.Result, error) {
		res, err := h.removeHost(ctx, in)
		return res, overSocket(err)
	})
	server.Handle(s.server, "reboot", func(ctx context.Context, who server.Caller, in rebootRequest, emit func(any)) (struct{}, error) {
		limit := time.Duration(in.LimitMs) * time.Millisecond
		return struct{}{}, overSocket(h.reboot(ctx, who.String(), in.On, limit, func(line string) { emit(line) }))
	})
	server.Handle(s.server, "restart", func(ctx context.Context, who server.Caller, in restartRequest, emit func(any)) (struct{}, error) {
		return struct{}{}, overSocket(h.restart(ctx, who.String(), in, func(line string) { emit(line) }))
	})
}

// callTelling has the server do what a verb asks, and tells each line that it says meanwhile.
func callTelling(ctx context.Context, client *server.Client, verb string, req any, tell func(string)) error {
	_, err := server.Call[struct{}](ctx, client, verb, req, func(b json.RawMessage) {
		var line string
		if json.Unmarshal(b, &line) == nil {
			tell(line)
		}
	})
	return fromSocket(err)
}

// A historyAnswer is history with what its JSON for people leaves out, so that a person who asks the
// server reads the same as one who reads the file.
type historyAnswer struct {
	history.History
	More map[string]runMore `json:"more"`
}

type runMore struct {
	By    string   `json:"by,omitempty"`
	Error string   `json:"error,omitempty"`
	Notes []string `json:"notes,omitempty"`

	Hosts map[string][]string `json:"hosts,omitempty"` // notes by host
}

func tellable(h history.History) historyAnswer {
	t := historyAnswer{h, map[string]runMore{}}
	for _, r := range h.Runs {
		more := runMore{By: r.By, Error: r.Error, Notes: r.Notes, Hosts: map[string][]string{}}
		for _, res := range r.Hosts {
			if len(res.Notes) > 0 {
				more.Hosts[res.Name] = res.Notes
			}
		}
		t.More[r.ID] = more
	}
	return t
}

func (t historyAnswer) history() history.History {
	for i := range t.Runs {
		m := t.More[t.Runs[i].ID]
		t.Runs[i].By, t.Runs[i].Error, t.Runs[i].Notes = m.By, m.Error, m.Notes
		for j := range t.Runs[i].Hosts {
			t.Runs[i].Hosts[j].Notes = m.Hosts[t.Runs[i].Hosts[j].Name]
		}
	}
	return t.History
}

// ExitCode goes along over the socket.
func (c *codeError) ExitCode() int { return c.code }

// A socketError is an error as it goes over the socket.
type socketError struct {
	error
	exit int
	hint string
}

func (e *socketError) Unwrap() error { return e.error }
func (e *socketError) ExitCode() int { return e.exit }
func (e *socketError) Hint() string  { return e.hint }

// overSocket gives an error the exit code and the hint that go over the socket with its text.
func overSocket(err error) error {
	if err == nil {
		return nil
	}
	code := exitError
	var c *codeError
	if errors.As(err, &c) {
		code = c.code
	}
	return &socketError{err, code, hintFor(err)}
}

// fromSocket is overSocket undone.
func fromSocket(err error) error {
	var far *server.Error
	if !errors.As(err, &far) {
		return err
	}
	err = errors.New(far.Message)
	if far.Hint != "" {
		err = hint(err, "%s", far.Hint)
	}
	return &codeError{far.Exit, err}
}

// serverFlag lets a verb be asked of another machine.
func serverFlag(c *cobra.Command) {
	c.Flags().String("server", "", "ask the server on another machine: ssh://[USER@]BOX[:PORT]")
}

// hereFirst annotates a verb that has something to do here before it asks elsewhere.
const hereFirst = "bellhop_here_first"

// serverOf is the --server that a verb was given.
func serverOf(c *cobra.Command) string {
	if f := c.Flags().Lookup("server"); f != nil {
		return f.Value.String()
	}
	return ""
}

// overSSH runs this same command line on the box where the server is.
func overSSH(e *Env, c *cobra.Command) error {
	where, tty := serverOf(c), isTerminal(e.Stdout) && isTerminal(e.Stdin)
	u, err := url.Parse(where)
	isSSH := err == nil && u.Scheme == "ssh"
	if !isSSH || u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") {
		return fmt.Errorf("read --server %s: want ssh://[USER@]BOX[:PORT]", where)
	}

	args := []string{"-o", "LogLevel=ERROR"} // no "Connection to box closed." below our own lines
	if tty {
		args = append(args, "-t")
	}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	if u.User != nil && u.User.Username() != "" {
		args = append(args, "-l", u.User.Username())
	}

	args = append(args, "--", u.Hostname(), farLine(e, c))
	cmd := exec.CommandContext(c.Context(), "ssh", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, direct(e.Stdout), direct(e.Stderr) // ssh writes itself, and the far end has the fence
	cmd.Env = child.Env(child.SSH)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // ssh gives the terminal back
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if c.Context().Err() != nil {
		return exit(exitInterrupted)
	}

	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == 127 {
		return hint(fmt.Errorf("%s has no bellhop on its PATH", u.Hostname()), "install it there as /usr/local/bin/bellhop")
	} else if errors.As(err, &ended) && ended.ExitCode() == 255 { // ssh's own; it has said why
		return hint(fmt.Errorf("reach %s: ssh could not", u.Host), "ssh %s must work first, with a key and without a question", u.Hostname())
	} else if errors.As(err, &ended) && ended.ExitCode() >= 0 {
		return exit(ended.ExitCode())
	}

	return err
}

// farLine is this command line for the shell of the other machine. What the environment here says of
// how to print goes along, and so do the flags that it sets; where the deployer keeps its files is
// the other machine's to say.
func farLine(e *Env, c *cobra.Command) string {
	var words []string
	if v := e.Getenv("NO_COLOR"); v != "" { // TERM goes by ssh
		words = []string{"env", "NO_COLOR=" + v}
	}

	args := withoutServer(e.Args)
	var set []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		isOwn := !slices.ContainsFunc(flagGroups(c.Name()), func(g flagGroup) bool { return f.Name != "json" && slices.Contains(g.names, f.Name) })
		if isOwn && !f.Changed && f.Value.String() != f.DefValue {
			set = append(set, "--"+f.Name+"="+f.Value.String())
		}
	})
	args = slices.Insert(args, verbAt(c, args), set...)
	return shellLine(slices.Concat(words, []string{"bellhop"}, args))
}

// verbAt is the place behind the verb in args: flags that are added there stand before any --.
func verbAt(c *cobra.Command, args []string) int {
	at := 0
	for i, arg := range args {
		if arg == c.Name() || slices.Contains(c.Aliases, arg) {
			at = i + 1
			break
		}
	}
	return at
}

func withoutServer(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(out, args[i:]...)
		case args[i] == "--server":
			i++
		case strings.HasPrefix(args[i], "--server="):
		default:
			out = append(out, args[i])
		}
	}
	return out
}
