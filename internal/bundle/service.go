package bundle

import (
	"fmt"
	"strings"
	"time"
)

// DefaultSettle is how long a unit that was started must stay up before it counts, where its
// service does not say.
const DefaultSettle = 5 * time.Second

// Defaults of a probe and of a step.
const (
	DefaultInterval    = time.Second
	DefaultTimeout     = 5 * time.Second
	DefaultGrace       = 30 * time.Second
	DefaultStatus      = 200
	DefaultStepTimeout = 10 * time.Minute
)

// MaxStart is how long a host waits for the units of one run to start and settle, all in all. A unit
// whose own TimeoutStartSec= is shorter has that long; one that pulls a large image may take its
// time.
const MaxStart = 20 * time.Minute

// MaxEvidence is how many bytes of evidence a host gives with one result.
const MaxEvidence = 48 << 10

// A Service is how one service is started and judged, where that is not by the defaults. A service
// without a Service has DefaultSettle, no probes and no steps.
type Service struct {
	Name   string  `json:"name"`
	Settle *int64  `json:"settle_ms,omitempty"` // nil: DefaultSettle; 0: off
	Probes []Probe `json:"probes,omitempty"`    // in the order of the config
	Before []Step  `json:"before,omitempty"`    // in the order of the config
	// Compose is set for a service that is a compose project: its unit is NAME.service.
	Compose *ComposeProject `json:"compose,omitempty"`
	// Digest is the service's own digest (ServiceDigest), where Before is not empty: steps run once
	// per run and digest. It is not in the bundle's digest.
	Digest string `json:"digest,omitempty"`
}

// A Probe asks whether a service works. Exactly one of HTTP, TCP and Command is set.
type Probe struct {
	HTTP     string `json:"http,omitempty"`    // URL, asked by GET from the host itself
	Status   int    `json:"expect,omitempty"`  // that the answer must have; 0: DefaultStatus
	TCP      string `json:"tcp,omitempty"`     // address:port that must accept a connection
	Command  string `json:"command,omitempty"` // for /bin/sh -c; must exit 0
	User     string `json:"user,omitempty"`    // that Command runs as; "": root
	Interval int64  `json:"interval_ms,omitempty"`
	Timeout  int64  `json:"timeout_ms,omitempty"` // of one try
	Grace    int64  `json:"grace_ms,omitempty"`   // for how long it may fail at first; 0: DefaultGrace
}

// Name is what people are told that p is: its kind and what it asks.
func (p *Probe) Name() string {
	switch {
	case p.HTTP != "":
		return "http " + p.HTTP
	case p.TCP != "":
		return "tcp " + p.TCP
	}
	return "command " + Brief(p.Command)
}

// Brief is a command as messages name it: its first line, and no more than a hundred bytes of that.
func Brief(command string) string {
	const most = 100
	line, rest, _ := strings.Cut(strings.TrimSpace(command), "\n")
	if len(line) > most {
		line, rest = strings.ToValidUTF8(line[:most], ""), "more"
	}
	if rest != "" {
		line += " …"
	}

	return line
}

// A Step is a command that runs on the host before anything of its service is touched.
type Step struct {
	Command string `json:"command"`              // for /bin/sh -c
	User    string `json:"user,omitempty"`       // "": root
	Timeout int64  `json:"timeout_ms,omitempty"` // 0: DefaultStepTimeout
	First   bool   `json:"first,omitempty"`      // at the service's first install too
}

// Limit is how long the step may take.
func (s *Step) Limit() time.Duration {
	if s.Timeout == 0 {
		return DefaultStepTimeout
	}
	return time.Duration(s.Timeout) * time.Millisecond
}

// ServiceOf is how a service is started and judged on the host of m.
func (m *Manifest) ServiceOf(name string) Service {
	for _, s := range m.Services {
		if s.Name == name {
			return s
		}
	}
	return Service{Name: name}
}

// SettleTime is how long a started unit of s must stay up before it counts.
func (s *Service) SettleTime() time.Duration {
	if s.Settle == nil {
		return DefaultSettle
	}
	return time.Duration(*s.Settle) * time.Millisecond
}

// EvidenceOf is what was seen of one thing that failed a health check or a step: a unit, a probe or
// a step of a service.
type EvidenceOf[T text] struct {
	Service T   `json:"service,omitempty"`
	Unit    T   `json:"unit,omitempty"`   // the unit that failed, or that a step ran in
	Probe   T   `json:"probe,omitempty"`  // the probe that failed, as Probe.Name has it
	Result  T   `json:"result,omitempty"` // of the unit as systemd names it, or what was wrong with the answer
	Exit    int `json:"exit,omitempty"`   // exit code or signal of a unit, status of an HTTP answer
	Why     T   `json:"why,omitempty"`    // the sentence that the error of the run has about it
	Lines   []T `json:"lines,omitempty"`  // the last 50 lines of the unit's journal, or the answer's first 2 KiB
}

// EvidenceLine is what was seen of one thing, in a line: what the host said of it, or, where it is an older
// helper that says nothing, "unit web.service: exit-code (3)".
func EvidenceLine(e Evidence) string {
	if e.Why != "" {
		return e.Why
	}

	what := "unit " + e.Unit
	if e.Probe != "" {
		what = "probe " + e.Probe
	}
	if e.Exit != 0 {
		return fmt.Sprintf("%s: %s (%d)", what, e.Result, e.Exit)
	}
	return what + ": " + e.Result
}
