package plan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// writeJudged writes a change of what a service says of its start: settle, probes and steps.
func (h *HostPlan) writeJudged(w io.Writer, c bundle.Change) {
	m := manifestOf(h.Bundle)
	was, is := judgedLines(h.Old, c.Name), judgedLines(&m, c.Name)
	if s := m.ServiceOf(c.Name); s.Compose != nil && (c.Action != bundle.Modify || slices.Equal(was, is)) {
		fmt.Fprintf(w, "  %s compose project %s\n", signs[c.Action], s.Compose.Project)
		return // what it does to containers is told one by one
	}

	fmt.Fprintf(w, "  %s %s\n", signs[c.Action], bundle.HowJudged(c.Name))
	for _, l := range was {
		if !slices.Contains(is, l) {
			fmt.Fprintf(w, "    -%s\n", l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			fmt.Fprintf(w, "    +%s\n", l)
		}
	}
}

// judgedLines is how m starts and judges a service, one line for each thing.
func judgedLines(m *bundle.Manifest, service string) []string {
	if m == nil {
		return nil
	}
	s := m.ServiceOf(service)

	ls := []string{"settle " + s.SettleTime().String()}
	for _, p := range s.Probes {
		ls = append(ls, "health "+probeLine(&p))
	}
	for _, b := range s.Before {
		more := []string{"timeout " + duration(b.Timeout, bundle.DefaultStepTimeout)}
		if b.User != "" {
			more = append(more, "user "+b.User)
		}
		if b.First {
			more = append(more, "at the first install too")
		}
		ls = append(ls, fmt.Sprintf("before command %s (%s)", oneLine(b.Command), strings.Join(more, ", ")))
	}
	return ls
}

func probeLine(p *bundle.Probe) string {
	var more []string
	if p.Status != 0 {
		more = append(more, fmt.Sprintf("expect %d", p.Status))
	}
	if p.User != "" {
		more = append(more, "user "+p.User)
	}
	more = append(more, "interval "+duration(p.Interval, bundle.DefaultInterval),
		"timeout "+duration(p.Timeout, bundle.DefaultTimeout), "grace "+duration(p.Grace, bundle.DefaultGrace))
	name := p.Name()
	if p.Command != "" { // all of it: its name ends with its first line
		name = "command " + p.Command
	}
	return oneLine(name) + " (" + strings.Join(more, ", ") + ")"
}

// duration is ms as people read it; 0 is the default.
func duration(ms int64, def time.Duration) string {
	d := time.Duration(ms) * time.Millisecond
	if ms == 0 {
		d = def
	}
	return d.String()
}

// oneLine is text of the config on one line.
func oneLine(text string) string {
	return plain.Text(strings.ReplaceAll(strings.TrimSpace(text), "\n", " ⏎ "), 4096)
}
