package service

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/yaml"
)

// How a service is started and judged: settle:, health: and before:. http and tcp take settings and the
// name of the host in braces; a command is a template like other files, in which no key has a place,
// since it is stored on the host. What differs from the defaults goes into the manifest, and nothing else.

// Bounds of what service.yaml says.
const (
	maxProbes  = 32
	maxSteps   = 16
	maxCommand = 16 << 10 // bytes
)

var (
	settleSpan   = syntax.Span{Low: 100 * time.Millisecond, High: 10 * time.Minute, Off: true}
	intervalSpan = syntax.Span{Low: 100 * time.Millisecond, High: 10 * time.Minute, Off: false}
	timeoutSpan  = syntax.Span{Low: 100 * time.Millisecond, High: 10 * time.Minute, Off: false}
	graceSpan    = syntax.Span{Low: 100 * time.Millisecond, High: time.Hour, Off: true}
	stepSpan     = syntax.Span{Low: time.Second, High: 24 * time.Hour, Off: false}
)

// noGrace is a grace of 0s in a manifest, where 0 means the default.
const noGrace = 1 // ms

// A Probe is one probe, before settings are filled in.
type Probe struct {
	bundle.Probe // HTTP and TCP as written, Command empty
	Run          *Command
	At           problem.Pos
}

// A Step is one step, before settings are filled in.
type Step struct {
	bundle.Step // Command empty
	Run         *Command
}

// A Command is the text of a command as written.
type Command struct {
	What     string // "health" or "before"
	text     string
	At       problem.Pos
	Template *template.Template // nil: it holds no action
}

// readHealth reads settle:, health: and before:.
func (s *reader) readHealth() {
	if bad := settleSpan.Trouble("settle", s.Def.Settle); bad != "" {
		s.report(s.Def.Settle.At, "%s", bad)
	}

	for i := range s.Def.Health {
		if i == maxProbes {
			s.report(s.Def.Health[i].At, "health: more than %d probes", maxProbes)
			break
		}
		s.readProbe(&s.Def.Health[i])
	}

	for i := range s.Def.Before {
		if i == maxSteps {
			s.report(s.Def.Before[i].At, "before: more than %d steps", maxSteps)
			break
		}
		s.readStep(&s.Def.Before[i])
	}
}

func (s *reader) readProbe(f *syntax.Probe) {
	if !s.oneKind(f) {
		return
	}
	p := Probe{At: f.At}
	switch {
	case f.HTTP.At.Line > 0:
		p.HTTP = f.HTTP.S
		s.readAsked(f.HTTP, "http", syntax.BadURL)
	case f.TCP.At.Line > 0:
		p.TCP = f.TCP.S
		s.readAsked(f.TCP, "tcp", syntax.BadTCP)
	default:
		p.Run = s.readCommand("health", f.Command)
	}

	if f.Expect.N != bundle.DefaultStatus {
		p.Status = f.Expect.N
	}
	p.User = s.readRunner(f.User)
	p.Interval = s.milliseconds("interval", f.Interval, intervalSpan, bundle.DefaultInterval)
	p.Timeout = s.milliseconds("timeout", f.Timeout, timeoutSpan, bundle.DefaultTimeout)
	p.Grace = s.milliseconds("grace", f.Grace, graceSpan, bundle.DefaultGrace)
	if f.Grace.At.Line > 0 && f.Grace.D == 0 {
		p.Grace = noGrace
	}
	if slices.ContainsFunc(s.Probes, p.same) {
		s.report(f.At, "health: this probe stands here a second time")
		return
	}

	s.Probes = append(s.Probes, p)
}

// oneKind says whether f asks one thing, and has nothing that does not go with it.
func (s *reader) oneKind(f *syntax.Probe) bool {
	kinds := 0
	for _, k := range []yaml.String{f.HTTP, f.TCP, f.Command} {
		if k.At.Line > 0 {
			kinds++
		}
	}

	status := f.Expect.At.Line > 0
	switch {
	case kinds == 0:
		s.report(f.At, "health: a probe is one of http, tcp and command, and this one has none of them")
	case kinds > 1:
		s.report(f.At, "health: a probe is one of http, tcp and command, and this one has %d of them; write each as a probe of its own", kinds)
	case status && f.HTTP.At.Line == 0:
		s.report(f.Expect.At, "health: expect is the status of an answer, which only an http probe has")
	case status && (f.Expect.N < 100 || f.Expect.N > 599):
		s.report(f.Expect.At, "health: expect %d: want a status of HTTP, as in 200", f.Expect.N)
	case f.User.At.Line > 0 && f.Command.At.Line == 0:
		s.report(f.User.At, "health: only a command runs as a user")
	default:
		return true
	}

	return false
}

func (p Probe) same(o Probe) bool {
	sameAddress := p.HTTP == o.HTTP && p.TCP == o.TCP
	sameCommand := p.User == o.User && p.Run.Source() == o.Run.Source()
	return sameAddress && sameCommand
}

func (c *Command) Source() string {
	if c == nil {
		return ""
	}
	return c.text
}

// readAsked looks at an address that may have names in braces; those are filled in for each host.
func (s *reader) readAsked(v yaml.String, kind string, bad func(string) string) {
	what := fmt.Sprintf("health: %s %q", kind, v.S)
	if !s.checkNames(v.At, what, v.S) || syntax.IsPattern(v.S) {
		return
	}
	if why := bad(v.S); why != "" {
		s.report(v.At, "%s: %s", what, why)
	}
}

// readRunner is the user that a command runs as, "" for root. It need not be one of the bundle.
func (s *reader) readRunner(v yaml.String) string {
	if v.At.Line == 0 || !s.account(v.At, "user", v.S) || v.S == "root" {
		return ""
	}
	return v.S
}

// milliseconds is d where it differs from the default, else 0.
func (s *reader) milliseconds(what string, d yaml.Duration, within syntax.Span, def time.Duration) int64 {
	if bad := within.Trouble(what, d); bad != "" {
		s.report(d.At, "%s", bad)
	}
	if d.D == def {
		return 0
	}
	return d.D.Milliseconds()
}

func (s *reader) readStep(f *syntax.Step) {
	if f.Command.At.Line == 0 {
		s.report(f.At, "before: a step has a command, and this one has none")
		return
	}

	step := Step{Run: s.readCommand("before", f.Command)}
	step.User = s.readRunner(f.User)
	step.Timeout = s.milliseconds("timeout", f.Timeout, stepSpan, bundle.DefaultStepTimeout)
	step.First = f.First != nil && *f.First

	twice := func(o Step) bool { return o.User == step.User && o.Run.Source() == step.Run.Source() }
	if slices.ContainsFunc(s.Steps, twice) {
		s.report(f.At, "before: this step stands here a second time")
		return
	}

	s.Steps = append(s.Steps, step)
}

// readCommand reads the command of what, "health" or "before".
func (s *reader) readCommand(what string, v yaml.String) *Command {
	c := &Command{What: what, text: v.S, At: v.At}
	if bad := BadCommand(v.S); bad != "" {
		s.report(v.At, "%s: command: %s", what, bad)
		return c
	}

	if !strings.Contains(v.S, "{{") {
		return c
	}

	c.Template = s.parseTemplate(s.Source.Name, v.S, func(in problem.Pos, format string, args ...any) {
		s.report(v.At, "%s", c.Within(in, fmt.Sprintf(format, args...)))
	})
	if c.Template != nil && c.Template.Secret {
		s.report(v.At, "%s: command: a command is stored on the host, so it can't name a key: have it read %s/NAME", what, bundle.KeyDir)
		c.Template = nil
	}

	return c
}

// Within is msg about a place in the command, whose line is said where there are several.
func (c *Command) Within(in problem.Pos, msg string) string {
	if strings.Contains(c.text, "\n") {
		return fmt.Sprintf("%s: command, line %d: %s", c.What, in.Line, msg)
	}
	return fmt.Sprintf("%s: command: %s", c.What, msg)
}

func BadCommand(text string) string {
	switch {
	case strings.TrimSpace(text) == "":
		return "it is empty"
	case strings.ContainsRune(text, 0):
		return "a NUL byte has no place in a command"
	case !utf8.ValidString(text):
		return "it is not UTF-8"
	case len(text) > maxCommand:
		return fmt.Sprintf("it is larger than %d KiB: put it into a file below files/, and call that", maxCommand>>10)
	}
	return ""
}
