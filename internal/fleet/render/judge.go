package render

import (
	"fmt"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/scalar"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
)

// judge settles how the service is started and judged on this host.
func (r *Rendering) judge() {
	s := r.Service
	out := bundle.Service{Name: s.Name}
	if d := s.Def.Settle; d.At.Line > 0 && d.D != bundle.DefaultSettle {
		ms := d.D.Milliseconds()
		out.Settle = &ms
	}

	for _, p := range s.Probes {
		q := p.Probe
		q.HTTP = r.asked(p, "http", q.HTTP, syntax.BadURL)
		q.TCP = r.asked(p, "tcp", q.TCP, syntax.BadTCP)
		q.Command = r.command(p.Run)
		out.Probes = append(out.Probes, q)
	}

	for _, step := range s.Steps {
		b := step.Step
		b.Command = r.command(step.Run)
		out.Before = append(out.Before, b)
	}

	if r.project != nil {
		out.Compose = &r.project.ComposeProject
	}
	if out.Settle != nil || out.Compose != nil || len(out.Probes)+len(out.Before) > 0 {
		r.judged = &out
	}
}

// asked is an address with the names in it filled in. What comes out wrong concerns the hosts that have
// these settings.
func (r *Rendering) asked(p service.Probe, kind, text string, bad func(string) string) string {
	if !syntax.IsPattern(text) {
		return text
	}
	if strings.Contains(text, "{"+syntax.HostWord+"}") {
		r.Scope.UsedHost = true
	}

	out, err := syntax.ExpandNames(text, r.Scope.Host.Name, r.Scope.Settings, plainScalar)
	why := ""
	if err != nil {
		why = err.Error()
	} else if why = bad(out); why != "" {
		why = fmt.Sprintf("here it is %q: %s", out, why)
	}

	if why != "" {
		r.own = append(r.own, problem.At(r.Service.Source.Name, r.Service.Source.Data, p.At, "health: %s %q: %s", kind, text, why))
	}

	return out
}

// plainScalar is the text of a setting within an address.
func plainScalar(v any) (string, error) {
	if !scalar.IsScalar(v) {
		return "", fmt.Errorf("is %s, and an address takes text", scalar.KindOf(v))
	}
	return fmt.Sprint(v), nil
}

// command is the text of c on this host.
func (r *Rendering) command(c *service.Command) string {
	if c == nil || c.Template == nil {
		return c.Source()
	}

	r.Scope.Budget.At(c.Template.File)
	data, err := c.Template.Execute(&r.Scope, nil)
	file := r.Service.Source
	if err != nil {
		in, msg := template.Explain(err)
		msg = strings.TrimPrefix(msg, "executing \""+c.Template.File+"\" ")
		who := ""
		if r.Scope.UsedHost {
			who = "on host " + r.Scope.Host.Name + ": "
		}
		r.Problems = append(r.Problems, problem.At(file.Name, file.Data, c.At, "%s%s", who, c.Within(in, msg)))
		return ""
	}

	if bad := service.BadCommand(string(data)); bad != "" {
		r.own = append(r.own, problem.At(file.Name, file.Data, c.At, "%s: command: once rendered, %s", c.What, bad))
	}

	return string(data)
}
