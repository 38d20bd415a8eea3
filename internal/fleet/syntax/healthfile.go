package syntax

import (
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
)

// The types below are health:, before: and the durations of a config as people write them.

// Probes is one probe or a list of them.
type Probes []Probe

// Probe is the URL of an http probe, or a mapping.
type Probe struct {
	HTTP     yaml.String   `yaml:"http" jsonschema_description:"URL that must answer"`
	Expect   yaml.Number   `yaml:"expect" jsonschema_description:"status of the answer; 200 by default"`
	TCP      yaml.String   `yaml:"tcp" jsonschema_description:"address:port that must accept a connection"`
	Command  yaml.String   `yaml:"command" jsonschema_description:"for /bin/sh -c; must exit 0"`
	User     yaml.String   `yaml:"user" jsonschema_description:"that the command runs as; root by default"`
	Interval yaml.Duration `yaml:"interval" jsonschema_description:"between two tries; 1s by default"`
	Timeout  yaml.Duration `yaml:"timeout" jsonschema_description:"of one try; 5s by default"`
	Grace    yaml.Duration `yaml:"grace" jsonschema_description:"for how long it may fail at first; 30s by default"`

	At problem.Pos `yaml:"-"`
}

// Steps is one step or a list of them.
type Steps []Step

type Step struct {
	Command yaml.String   `yaml:"command" jsonschema:"required" jsonschema_description:"for /bin/sh -c; must exit 0"`
	User    yaml.String   `yaml:"user" jsonschema_description:"that the command runs as; root by default"`
	Timeout yaml.Duration `yaml:"timeout" jsonschema_description:"10m by default"`
	First   *bool         `yaml:"first" jsonschema_description:"true: at the service's first install too"`

	At problem.Pos `yaml:"-"`
}

// A Span is what a duration may be. Zero is allowed beside it where it turns something off.
type Span struct {
	Low, High time.Duration
	Off       bool // 0s turns it off
}

// Trouble is what is wrong with d, which people know as what; "" when nothing is, or there is none.
func (s Span) Trouble(what string, d yaml.Duration) string {
	tooShort := d.D < s.Low && !(s.Off && d.D == 0)
	switch {
	case d.At == (problem.Pos{}):
		return ""
	case d.D < 0:
		return what + " " + shortDuration(d.D) + ": a duration is not negative"
	case tooShort && s.Off:
		return what + " " + shortDuration(d.D) + " is too short: want " + shortDuration(s.Low) + " or more, or 0s to turn it off"
	case tooShort:
		return what + " " + shortDuration(d.D) + " is too short: want " + shortDuration(s.Low) + " or more"
	case d.D > s.High:
		return what + " " + shortDuration(d.D) + " is too long: want " + shortDuration(s.High) + " at most"
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

func (ps *Probes) Decode(d *yaml.Decoder, n ast.Node) {
	d.OneOrMore(n, func(item ast.Node) {
		p := Probe{At: yaml.NodeAt(item)}
		r, ok := d.Resolve(item)
		if !ok {
			return
		}
		if _, isMap := r.(ast.MapNode); isMap {
			d.DecodeStruct(r, reflect.ValueOf(&p).Elem())
		} else {
			p.HTTP.Decode(d, item)
			if p.HTTP.S == "" && r.Type() != ast.StringType {
				return // reported already
			}
		}

		*ps = append(*ps, p)
	})
}

func (ss *Steps) Decode(d *yaml.Decoder, n ast.Node) {
	d.OneOrMore(n, func(item ast.Node) {
		s := Step{At: yaml.NodeAt(item)}
		r, ok := d.Resolve(item)
		if !ok {
			return
		}
		if _, isMap := r.(ast.MapNode); !isMap {
			d.Report(s.At, "want a mapping, as in { command: \"pg_dump app >/srv/backup/app.sql\" }, not %s", yaml.Describe(r))
			return
		}

		d.DecodeStruct(r, reflect.ValueOf(&s).Elem())
		*ss = append(*ss, s)
	})
}
