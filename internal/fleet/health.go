package fleet

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
	"bellhop/internal/fleet/tree"
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

// A probeSpec is one probe, before settings are filled in.
type probeSpec struct {
	bundle.Probe // HTTP and TCP as written, Command empty
	command      *commandSpec
	at           problem.Pos
}

// A stepSpec is one step, before settings are filled in.
type stepSpec struct {
	bundle.Step // Command empty
	command     *commandSpec
}

// A commandSpec is the text of a command as written.
type commandSpec struct {
	what string // "health" or "before"
	text string
	at   problem.Pos
	tmpl *template.Template // nil: it holds no action
}

// readHealth reads settle:, health: and before:.
func (s *service) readHealth(t *tree.Tree) {
	if bad := settleSpan.Trouble("settle", s.def.Settle); bad != "" {
		s.tell(s.def.Settle.At, "%s", bad)
	}

	for i := range s.def.Health {
		if i == maxProbes {
			s.tell(s.def.Health[i].At, "health: more than %d probes", maxProbes)
			break
		}
		s.readProbe(t, &s.def.Health[i])
	}

	for i := range s.def.Before {
		if i == maxSteps {
			s.tell(s.def.Before[i].At, "before: more than %d steps", maxSteps)
			break
		}
		s.readStep(t, &s.def.Before[i])
	}
}

func (s *service) readProbe(t *tree.Tree, f *syntax.Probe) {
	if !s.oneKind(f) {
		return
	}
	p := probeSpec{at: f.At}
	switch {
	case f.HTTP.At.Line > 0:
		p.HTTP = f.HTTP.S
		s.readAsked(f.HTTP, "http", syntax.BadURL)
	case f.TCP.At.Line > 0:
		p.TCP = f.TCP.S
		s.readAsked(f.TCP, "tcp", syntax.BadTCP)
	default:
		p.command = s.readCommand(t, "health", f.Command)
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
	if slices.ContainsFunc(s.probes, p.same) {
		s.tell(f.At, "health: this probe stands here a second time")
		return
	}
	s.probes = append(s.probes, p)
}

// oneKind tells whether f asks one thing, and has nothing that does not go with it.
func (s *service) oneKind(f *syntax.Probe) bool {
	kinds := 0
	for _, k := range []yaml.String{f.HTTP, f.TCP, f.Command} {
		if k.At.Line > 0 {
			kinds++
		}
	}

	status := f.Expect.At.Line > 0
	switch {
	case kinds == 0:
		s.tell(f.At, "health: a probe is one of http, tcp and command, and this one has none of them")
	case kinds > 1:
		s.tell(f.At, "health: a probe is one of http, tcp and command, and this one has %d of them; write each as a probe of its own", kinds)
	case status && f.HTTP.At.Line == 0:
		s.tell(f.Expect.At, "health: expect is the status of an answer, which only an http probe has")
	case status && (f.Expect.N < 100 || f.Expect.N > 599):
		s.tell(f.Expect.At, "health: expect %d: want a status of HTTP, as in 200", f.Expect.N)
	case f.User.At.Line > 0 && f.Command.At.Line == 0:
		s.tell(f.User.At, "health: only a command runs as a user")
	default:
		return true
	}
	return false
}

func (p probeSpec) same(o probeSpec) bool {
	return p.HTTP == o.HTTP && p.TCP == o.TCP && p.User == o.User && p.command.source() == o.command.source()
}

func (c *commandSpec) source() string {
	if c == nil {
		return ""
	}
	return c.text
}

// readAsked looks at an address that may have names in braces; those are filled in for each host.
func (s *service) readAsked(v yaml.String, kind string, bad func(string) string) {
	what := fmt.Sprintf("health: %s %q", kind, v.S)
	if !s.checkNames(v.At, what, v.S) || syntax.IsPattern(v.S) {
		return
	}
	if why := bad(v.S); why != "" {
		s.tell(v.At, "%s: %s", what, why)
	}
}

// readRunner is the user that a command runs as, "" for root. It need not be one of the bundle.
func (s *service) readRunner(v yaml.String) string {
	if v.At.Line == 0 || !s.account(v.At, "user", v.S) || v.S == "root" {
		return ""
	}
	return v.S
}

// milliseconds is d where it differs from the default, else 0.
func (s *service) milliseconds(what string, d yaml.Duration, within syntax.Span, def time.Duration) int64 {
	if bad := within.Trouble(what, d); bad != "" {
		s.tell(d.At, "%s", bad)
	}
	if d.D == def {
		return 0
	}
	return d.D.Milliseconds()
}

func (s *service) readStep(t *tree.Tree, f *syntax.Step) {
	if f.Command.At.Line == 0 {
		s.tell(f.At, "before: a step has a command, and this one has none")
		return
	}
	step := stepSpec{command: s.readCommand(t, "before", f.Command)}
	step.User = s.readRunner(f.User)
	step.Timeout = s.milliseconds("timeout", f.Timeout, stepSpan, bundle.DefaultStepTimeout)
	step.First = f.First != nil && *f.First

	twice := func(o stepSpec) bool { return o.User == step.User && o.command.source() == step.command.source() }
	if slices.ContainsFunc(s.steps, twice) {
		s.tell(f.At, "before: this step stands here a second time")
		return
	}
	s.steps = append(s.steps, step)
}

// readCommand reads the command of what, "health" or "before".
func (s *service) readCommand(t *tree.Tree, what string, v yaml.String) *commandSpec {
	c := &commandSpec{what: what, text: v.S, at: v.At}
	if bad := badCommand(v.S); bad != "" {
		s.tell(v.At, "%s: command: %s", what, bad)
		return c
	}
	if !strings.Contains(v.S, "{{") {
		return c
	}

	c.tmpl = s.parseTemplate(t, s.text.Name, v.S, func(in problem.Pos, format string, args ...any) {
		s.tell(v.At, "%s", c.within(in, fmt.Sprintf(format, args...)))
	})
	if c.tmpl != nil && c.tmpl.Secret {
		s.tell(v.At, "%s: command: a command is stored on the host, so it can't name a key: have it read %s/NAME", what, bundle.KeyDir)
		c.tmpl = nil
	}
	return c
}

// within is msg about a place in the command, whose line is said where there are several.
func (c *commandSpec) within(in problem.Pos, msg string) string {
	if strings.Contains(c.text, "\n") {
		return fmt.Sprintf("%s: command, line %d: %s", c.what, in.Line, msg)
	}
	return fmt.Sprintf("%s: command: %s", c.what, msg)
}

func badCommand(text string) string {
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
