package fleet

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// How a service is started and judged: settle:, health: and before:. http and tcp take settings and the
// name of the host in braces; a command is a template like other files, in which no key has a place,
// since it is stored on the host. What differs from the defaults goes into the manifest, and nothing else.

// Bounds of what service.yaml says.
const (
	maxProbes  = 32
	maxSteps   = 16
	maxCommand = 16 << 10 // bytes
	maxURL     = 2 << 10  // bytes
)

var (
	settleSpan   = span{100 * time.Millisecond, 10 * time.Minute, true}
	intervalSpan = span{100 * time.Millisecond, 10 * time.Minute, false}
	timeoutSpan  = span{100 * time.Millisecond, 10 * time.Minute, false}
	graceSpan    = span{100 * time.Millisecond, time.Hour, true}
	stepSpan     = span{time.Second, 24 * time.Hour, false}
	confirmSpan  = span{time.Second, 10 * time.Minute, true}
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
	tmpl *tmpl // nil: it holds no action
}

// readHealth reads settle:, health: and before:.
func (s *service) readHealth(t *tree.Tree) {
	if bad := settleSpan.trouble("settle", s.def.Settle); bad != "" {
		s.tell(s.def.Settle.At, "%s", bad)
	}

	for i := range s.def.Health {
		if i == maxProbes {
			s.tell(s.def.Health[i].at, "health: more than %d probes", maxProbes)
			break
		}
		s.readProbe(t, &s.def.Health[i])
	}

	for i := range s.def.Before {
		if i == maxSteps {
			s.tell(s.def.Before[i].at, "before: more than %d steps", maxSteps)
			break
		}
		s.readStep(t, &s.def.Before[i])
	}
}

func (s *service) readProbe(t *tree.Tree, f *probeFile) {
	if !s.oneKind(f) {
		return
	}
	p := probeSpec{at: f.at}
	switch {
	case f.HTTP.At.Line > 0:
		p.HTTP = f.HTTP.S
		s.readAsked(f.HTTP, "http", badURL)
	case f.TCP.At.Line > 0:
		p.TCP = f.TCP.S
		s.readAsked(f.TCP, "tcp", badTCP)
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
		s.tell(f.at, "health: this probe stands here a second time")
		return
	}
	s.probes = append(s.probes, p)
}

// oneKind tells whether f asks one thing, and has nothing that does not go with it.
func (s *service) oneKind(f *probeFile) bool {
	kinds := 0
	for _, k := range []str{f.HTTP, f.TCP, f.Command} {
		if k.At.Line > 0 {
			kinds++
		}
	}

	status := f.Expect.At.Line > 0
	switch {
	case kinds == 0:
		s.tell(f.at, "health: a probe is one of http, tcp and command, and this one has none of them")
	case kinds > 1:
		s.tell(f.at, "health: a probe is one of http, tcp and command, and this one has %d of them; write each as a probe of its own", kinds)
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
func (s *service) readAsked(v str, kind string, bad func(string) string) {
	what := fmt.Sprintf("health: %s %q", kind, v.S)
	if !s.checkNames(v.At, what, v.S) || isPattern(v.S) {
		return
	}
	if why := bad(v.S); why != "" {
		s.tell(v.At, "%s: %s", what, why)
	}
}

// readRunner is the user that a command runs as, "" for root. It need not be one of the bundle.
func (s *service) readRunner(v str) string {
	if v.At.Line == 0 || !s.account(v.At, "user", v.S) || v.S == "root" {
		return ""
	}
	return v.S
}

// milliseconds is d where it differs from the default, else 0.
func (s *service) milliseconds(what string, d duration, within span, def time.Duration) int64 {
	if bad := within.trouble(what, d); bad != "" {
		s.tell(d.At, "%s", bad)
	}
	if d.D == def {
		return 0
	}
	return d.D.Milliseconds()
}

func (s *service) readStep(t *tree.Tree, f *stepFile) {
	if f.Command.At.Line == 0 {
		s.tell(f.at, "before: a step has a command, and this one has none")
		return
	}
	step := stepSpec{command: s.readCommand(t, "before", f.Command)}
	step.User = s.readRunner(f.User)
	step.Timeout = s.milliseconds("timeout", f.Timeout, stepSpan, bundle.DefaultStepTimeout)
	step.First = f.First != nil && *f.First

	twice := func(o stepSpec) bool { return o.User == step.User && o.command.source() == step.command.source() }
	if slices.ContainsFunc(s.steps, twice) {
		s.tell(f.at, "before: this step stands here a second time")
		return
	}
	s.steps = append(s.steps, step)
}

// readCommand reads the command of what, "health" or "before".
func (s *service) readCommand(t *tree.Tree, what string, v str) *commandSpec {
	c := &commandSpec{what: what, text: v.S, at: v.At}
	if bad := badCommand(v.S); bad != "" {
		s.tell(v.At, "%s: command: %s", what, bad)
		return c
	}
	if !strings.Contains(v.S, "{{") {
		return c
	}

	parsed, err := parseTemplate(s.text.file, v.S)
	if err != nil {
		in, msg := templateError(err)
		s.tell(v.At, "%s", c.within(in, msg))
		return c
	}
	c.tmpl = &tmpl{src: s.text.file, t: parsed}
	tell := func(in problem.Pos, format string, args ...any) {
		s.tell(v.At, "%s", c.within(in, fmt.Sprintf(format, args...)))
	}
	w := &walker{tmpl: c.tmpl, text: v.S, tell: tell, service: s, tree: t}
	w.walk(parsed)
	if c.tmpl.secret {
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

// badURL says why a host can't ask text; "" when it can.
func badURL(text string) string {
	const example = "as in http://127.0.0.1:8080/healthz"
	if len(text) > maxURL {
		return fmt.Sprintf("a URL longer than %d bytes", maxURL)
	}
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "want a URL without blanks, " + example
	}
	u, err := url.Parse(text)
	if err != nil {
		return "no URL: want one " + example
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "want http:// or https://, " + example
	case u.Hostname() == "" || u.Opaque != "":
		return "the URL names no host: want one " + example
	case u.User != nil:
		return "a URL with a user or a password would be stored on the host as it is: use a command that reads a key"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "what follows # is sent to no server: leave it out"
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && badPort(u.Port()):
		return "want a port from 1 to 65535, " + example
	}
	return ""
}

// badTCP says why a host can't connect to text; "" when it can.
func badTCP(text string) string {
	const want = "want address:port, as in 127.0.0.1:5432 or '[::1]:5432'"
	if strings.Contains(text, "://") {
		return want + ", without a scheme"
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return want
	}
	_, ipErr := netip.ParseAddr(host)
	name := nameAddress.MatchString(host) && !strings.Contains(host, "..") && !digitsAndDots(host)
	if badPort(port) || ipErr != nil && !name {
		return want
	}
	return ""
}

func badPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err != nil || n == 0 || strconv.FormatUint(n, 10) != port
}

// judge settles how the service is started and judged on this host.
func (r *rendered) judge() {
	s := r.svc
	out := bundle.Service{Name: s.name}
	if d := s.def.Settle; d.At.Line > 0 && d.D != bundle.DefaultSettle {
		ms := d.D.Milliseconds()
		out.Settle = &ms
	}

	for _, p := range s.probes {
		q := p.Probe
		q.HTTP = r.asked(p, "http", q.HTTP, badURL)
		q.TCP = r.asked(p, "tcp", q.TCP, badTCP)
		q.Command = r.command(p.command)
		out.Probes = append(out.Probes, q)
	}

	for _, step := range s.steps {
		b := step.Step
		b.Command = r.command(step.command)
		out.Before = append(out.Before, b)
	}

	if out.Settle != nil || len(out.Probes)+len(out.Before) > 0 {
		r.judged = &out
	}
}

// asked is an address with the names in it filled in. What comes out wrong concerns the hosts that have
// these settings.
func (r *rendered) asked(p probeSpec, kind, text string, bad func(string) string) string {
	if !isPattern(text) {
		return text
	}
	if strings.Contains(text, "{"+hostWord+"}") {
		r.data.usedHost = true
	}
	out, err := expandNames(text, r.data.host.Name, r.data.Settings, plainScalar)
	why := ""
	if err != nil {
		why = err.Error()
	} else if why = bad(out); why != "" {
		why = fmt.Sprintf("here it is %q: %s", out, why)
	}
	if why != "" {
		r.own = append(r.own, problem.At(r.svc.text.file, r.svc.text.data, p.at, "health: %s %q: %s", kind, text, why))
	}
	return out
}

// plainScalar is the text of a setting within an address.
func plainScalar(v any) (string, error) {
	if !isScalar(v) {
		return "", fmt.Errorf("is %s, and an address takes text", kindOf(v))
	}
	return fmt.Sprint(v), nil
}

// command is the text of c on this host.
func (r *rendered) command(c *commandSpec) string {
	if c == nil || c.tmpl == nil {
		return c.source()
	}
	r.data.budget.At(c.tmpl.src)
	data, err := c.tmpl.execute(&r.data, nil)
	file := r.svc.text
	if err != nil {
		in, msg := templateError(err)
		msg = strings.TrimPrefix(msg, "executing \""+c.tmpl.src+"\" ")
		who := ""
		if r.data.usedHost {
			who = "on host " + r.data.host.Name + ": "
		}
		r.problems = append(r.problems, problem.At(file.file, file.data, c.at, "%s%s", who, c.within(in, msg)))
		return ""
	}
	if bad := badCommand(string(data)); bad != "" {
		r.own = append(r.own, problem.At(file.file, file.data, c.at, "%s: command: once rendered, %s", c.what, bad))
	}
	return string(data)
}

// confirm is for how long a host waits to be confirmed, and what is wrong with how it is written.
func (f *fleetFile) confirm() (time.Duration, string) {
	if f.Confirm.At.Line == 0 {
		return DefaultConfirm, ""
	}
	return f.Confirm.D, confirmSpan.trouble("confirm", f.Confirm)
}
