package fleet

import (
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
)

// The types below are health:, before: and the durations of a config as people write them.

// probesFile is one probe or a list of them.
type probesFile []probeFile

// probeFile is the URL of an http probe, or a mapping.
type probeFile struct {
	HTTP     str      `yaml:"http" jsonschema_description:"URL that must answer"`
	Expect   number   `yaml:"expect" jsonschema_description:"status of the answer; 200 by default"`
	TCP      str      `yaml:"tcp" jsonschema_description:"address:port that must accept a connection"`
	Command  str      `yaml:"command" jsonschema_description:"for /bin/sh -c; must exit 0"`
	User     str      `yaml:"user" jsonschema_description:"that the command runs as; root by default"`
	Interval duration `yaml:"interval" jsonschema_description:"between two tries; 1s by default"`
	Timeout  duration `yaml:"timeout" jsonschema_description:"of one try; 5s by default"`
	Grace    duration `yaml:"grace" jsonschema_description:"for how long it may fail at first; 30s by default"`

	at problem.Pos
}

// stepsFile is one step or a list of them.
type stepsFile []stepFile

type stepFile struct {
	Command str      `yaml:"command" jsonschema:"required" jsonschema_description:"for /bin/sh -c; must exit 0"`
	User    str      `yaml:"user" jsonschema_description:"that the command runs as; root by default"`
	Timeout duration `yaml:"timeout" jsonschema_description:"10m by default"`
	First   *bool    `yaml:"first" jsonschema_description:"true: at the service's first install too"`

	at problem.Pos
}

// duration is a length of time that remembers where it stood. At is zero where none stands, and where
// what stands there was told as a problem.
type duration struct {
	D  time.Duration
	At problem.Pos
}

func (x *duration) decode(d *decoder, n ast.Node) {
	at := nodeAt(n)
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	text, scalar := scalarText(r)
	v, err := time.ParseDuration(text)
	switch {
	case !scalar || r.Type() == ast.NullType || r.Type() == ast.BoolType:
		d.problem(at, "want a duration, as in 30s, 5m or 1h30m, not %s", describe(r))
	case err != nil:
		d.problem(at, "%q is no duration: want a number with its unit, as in 500ms, 30s, 5m or 1h30m", text)
	default:
		x.D, x.At = v, at
	}
}

// A span is what a duration may be. Zero is allowed beside it where it turns something off.
type span struct {
	low, high time.Duration
	off       bool // 0s turns it off
}

// trouble is what is wrong with d, which people know as what; "" when nothing is, or none stands there.
func (s span) trouble(what string, d duration) string {
	tooShort := d.D < s.low && !(s.off && d.D == 0)
	switch {
	case d.At == (problem.Pos{}):
		return ""
	case d.D < 0:
		return what + " " + shortDuration(d.D) + ": a duration is not negative"
	case tooShort && s.off:
		return what + " " + shortDuration(d.D) + " is too short: want " + shortDuration(s.low) + " or more, or 0s to turn it off"
	case tooShort:
		return what + " " + shortDuration(d.D) + " is too short: want " + shortDuration(s.low) + " or more"
	case d.D > s.high:
		return what + " " + shortDuration(d.D) + " is too long: want " + shortDuration(s.high) + " at most"
	}
	return ""
}

// shortDuration writes d as people write it: 10m for 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (ps *probesFile) decode(d *decoder, n ast.Node) {
	d.oneOrMore(n, func(item ast.Node) {
		p := probeFile{at: nodeAt(item)}
		r, ok := d.resolve(item)
		if !ok {
			return
		}
		if _, isMap := r.(ast.MapNode); isMap {
			d.decodeStruct(r, reflect.ValueOf(&p).Elem())
		} else {
			p.HTTP.decode(d, item)
			if p.HTTP.S == "" && r.Type() != ast.StringType {
				return // told
			}
		}
		*ps = append(*ps, p)
	})
}

func (ss *stepsFile) decode(d *decoder, n ast.Node) {
	d.oneOrMore(n, func(item ast.Node) {
		s := stepFile{at: nodeAt(item)}
		r, ok := d.resolve(item)
		if !ok {
			return
		}
		if _, isMap := r.(ast.MapNode); !isMap {
			d.problem(s.at, "want a mapping, as in { command: \"pg_dump app >/srv/backup/app.sql\" }, not %s", describe(r))
			return
		}
		d.decodeStruct(r, reflect.ValueOf(&s).Elem())
		*ss = append(*ss, s)
	})
}

// oneOrMore calls f for each item of a list, or for what stands there alone.
func (d *decoder) oneOrMore(n ast.Node, f func(ast.Node)) {
	r, ok := d.resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	if r.Type() == ast.SequenceType {
		d.each(r, f)
		return
	}
	f(n)
}
