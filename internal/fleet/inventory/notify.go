package inventory

import (
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
)

// A Notify is one target of messages.
type Notify struct {
	Name   string
	Source string   // the age file that holds its URL
	On     []string // of syntax.NotifyEvents: what is told; never empty
	Hosts  string   // of which hosts, as Choose reads it; "" is all
	Line   int      // in bellhop.yaml
}

// readNotify reads notify:, once all hosts are known.
func (m *maker) readNotify() {
	for i := range m.file.Notify {
		e := &m.file.Notify[i]
		m.goodName(m.main, e.At, "notify", e.Key)
		n := Notify{Name: e.Key, Source: e.Value.Source.S, On: e.Value.On.Strings(), Hosts: e.Value.Hosts.S, Line: e.At.Line}

		if bad := syntax.SourceTrouble(n.Source, "notify/"+e.Key); bad != "" {
			m.report(m.main, placeOf(e.Value.Source, e.At), "notify: %s: source %q: %s", e.Key, n.Source, bad)
			continue
		}
		for _, event := range e.Value.On {
			if !syntax.IsNotifyEvent(event.S) {
				m.report(m.main, event.At, "notify: %s: on %q: want %s%s", e.Key, event.S, strings.Join(syntax.NotifyEvents, ", "), problem.DidYouMean(event.S, syntax.NotifyEvents))
			}
		}
		if len(n.On) == 0 {
			n.On = syntax.DefaultNotifyEvents
		}

		if _, err := Choose(m.named(), n.Hosts); err != nil {
			m.report(m.main, placeOf(e.Value.Hosts, e.At), "notify: %s: %v", e.Key, err)
		}
		m.Notify = append(m.Notify, n)
	}
	slices.SortFunc(m.Notify, func(a, b Notify) int { return strings.Compare(a.Name, b.Name) })
}

// placeOf is where a value stands; otherwise where its name does.
func placeOf(s yaml.String, otherwise problem.Pos) problem.Pos {
	if s.At.Line > 0 {
		return s.At
	}
	return otherwise
}

func (m *maker) named() []Named {
	all := make([]Named, len(m.Hosts))
	for i, h := range m.Hosts {
		all[i] = Named{h.Host.Name, h.Host.Tags}
	}
	return all
}
