package fleet

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/unitfile"
)

// unitTexts are unit files and drop-ins by their path on the host; templates are rendered.
type unitTexts map[string][]byte

// readUnitTexts looks at the unit files that are no templates, once for all hosts.
func (s *service) readUnitTexts() {
	texts := unitTexts{}
	for _, u := range s.units {
		if u.tmpl == nil {
			texts[u.path] = u.blob.Data
		}
	}

	c := s.checkUnits(texts, false)
	s.problems = append(s.problems, c.problems...)
	s.refs, s.needs, s.programs = c.refs, c.needs, c.programs
	s.made = s.makes()
}

// checkUnits looks at the unit files that templates have a part in, as they are on this host.
func (r *rendered) checkUnits(texts unitTexts) {
	if !slices.ContainsFunc(r.svc.units, func(u unitSpec) bool { return u.tmpl != nil }) {
		return
	}

	c := r.svc.checkUnits(texts, true)
	r.problems = append(r.problems, c.problems...)
	r.refs, r.needs = c.refs, c.needs
}

// A unitCheck is what is found in the units of one service.
type unitCheck struct {
	s        *service
	problems problem.Problems
	refs     []unitRef     // names that somebody must make
	needs    []SystemdNeed // what not every systemd knows
	programs []programRef
	broken   map[string]bool // units with a refused line
}

// A SystemdNeed is a line of a unit that older versions of systemd ignore.
type SystemdNeed struct {
	Since int    // the first version that knows it
	Text  string // "services/web/web.service:3: OpenFile= needs systemd 253"

	Service string `json:",omitempty"` // whose unit it is
}

// checkUnits looks at the units in texts. A unit that a template has a part in is looked at when
// the template was rendered (rendered), any other one once for all hosts.
func (s *service) checkUnits(texts unitTexts, rendered bool) *unitCheck {
	c := &unitCheck{s: s, broken: map[string]bool{}}
	templates := map[string]bool{}
	for i := range s.units {
		u := &s.units[i]
		data, ok := texts[u.path]
		if ok && (u.tmpl != nil) == rendered {
			c.file(u, data)
		}
		if u.tmpl != nil {
			templates[u.unit] = true
		}
	}

	for i := range s.units {
		u := &s.units[i]
		if !u.dropin && templates[u.unit] == rendered {
			c.whole(u, texts)
		}
	}

	return c
}

// file reports what is wrong with one file.
func (c *unitCheck) file(u *unitSpec, data []byte) {
	_, kind := unitfile.SplitName(u.unit)
	file := unitfile.Parse(data)
	for _, p := range unitfile.Check(kind, file) {
		q := c.at(u, p, data, p.Message)
		if p.Since > unitfile.OldestSystemd {
			c.needs = append(c.needs, SystemdNeed{Since: p.Since, Text: fmt.Sprintf("%s:%d: %s", q.File, q.Line, q.Message)})
		}
		known := p.Since > 0 && p.Since <= unitfile.NewestSystemd
		if known {
			continue // it is as wanted on the hosts that have it
		}
		q.Warning = !p.Refused
		c.problems = append(c.problems, q)
		c.broken[u.unit] = c.broken[u.unit] || p.Refused
	}

	c.collect(u, file, data)
}

// at is a problem at its place. Of a template the place is where the same key is assigned.
func (c *unitCheck) at(u *unitSpec, p unitfile.Problem, data []byte, message string) *problem.Problem {
	where := problem.Pos{Line: p.Line, Column: p.Column}
	if u.tmpl == nil {
		return problem.At(u.src, data, where, "%s", message)
	}

	_, key, _ := strings.Cut(p.Key, ".")
	return problem.At(u.src, u.blob.Data, keyLine(u.blob.Data, key), "service %s: %s", c.s.name, message)
}

// keyLine finds the first assignment of a key in a template; the first line when there is none.
func keyLine(data []byte, key string) problem.Pos {
	no := 0
	for line := range bytes.Lines(data) {
		no++
		name, _, ok := bytes.Cut(line, []byte("="))
		if ok && key != "" && string(bytes.TrimSpace(name)) == key {
			return problem.Pos{Line: no, Column: 1 + len(name) - len(bytes.TrimLeft(name, " \t"))}
		}
	}

	return problem.Pos{Line: 1, Column: 1}
}

// whole reports what makes systemd refuse a unit together with its drop-ins.
func (c *unitCheck) whole(u *unitSpec, texts unitTexts) {
	if len(texts[u.path]) == 0 {
		return // told already, or its template does not render
	}

	parts := []*unitSpec{u}
	for i := range c.s.units {
		if d := &c.s.units[i]; d.dropin && d.unit == u.unit {
			parts = append(parts, d)
		}
	}

	unit := &unitfile.Unit{}
	for _, part := range parts {
		unit.Add(unitfile.Parse(texts[part.path]))
	}

	for _, p := range unitfile.CheckUnit(u.unit, unit) {
		if c.broken[u.unit] {
			break // the line that was refused is the cause
		}
		part, place := findKey(parts, texts, p.Key)
		p.Pos = place
		q := c.at(part, p, texts[part.path], p.Message)
		q.Warning = !p.Refused
		c.problems = append(c.problems, q)
	}

	c.activated(u, unit, texts)
	c.reloads(u, unit)
	c.installs(u, unit, parts, texts)
}

// installs warns of an [Install] section that enables nothing: who wrote it meant the unit to be
// enabled and started, and systemd does neither.
func (c *unitCheck) installs(u *unitSpec, unit *unitfile.Unit, parts []*unitSpec, texts unitTexts) {
	hasSection := slices.ContainsFunc(unitfile.Parse(texts[u.path]).Sections, func(s unitfile.Section) bool { return s.Name == "Install" })
	onlyDefault := unit.Value("Install", "DefaultInstance") != ""
	if !hasSection || unit.Installs() || onlyDefault {
		return
	}

	part, place := findKey(parts, texts, "Install.")
	p := c.at(part, unitfile.Problem{Pos: place, Key: "Install.WantedBy"}, texts[part.path],
		"[Install] names no unit: this one is neither enabled nor started; write WantedBy=multi-user.target, or leave the section out")
	p.Warning = true
	c.problems = append(c.problems, p)
}

// findKey is where a key is assigned last, else the header of its section, else the beginning.
func findKey(parts []*unitSpec, texts unitTexts, key string) (*unitSpec, unitfile.Pos) {
	section, name, _ := strings.Cut(key, ".")
	found, place := parts[0], unitfile.Pos{Line: 1, Column: 1}
	isHeader := true
	for _, part := range parts {
		file := unitfile.Parse(texts[part.path])
		for _, s := range file.Sections {
			if s.Name == section && isHeader && part == parts[0] {
				place = s.Pos
			}
		}
		for _, a := range file.Assignments {
			if a.Section == section && a.Key == name {
				found, place, isHeader = part, a.Pos, false
			}
		}
	}

	return found, place
}

// reloads warns of a reload that the unit can't do.
func (c *unitCheck) reloads(u *unitSpec, unit *unitfile.Unit) {
	if u.quadlet || !strings.HasSuffix(u.unit, ".service") {
		return
	}

	can := len(unit.Values("Service", "ExecReload")) > 0 || unit.Value("Service", "Type") == "notify-reload"
	if can {
		return
	}

	const message = "%s has no ExecReload=: a reload of it does nothing, and systemd calls it failed"
	warn := func(at problem.Pos) {
		p := problem.At(c.s.text.Name, c.s.text.Data, at, message, u.unit)
		p.Warning = true
		c.problems = append(c.problems, p)
	}

	if r := c.s.rules[u.unit]; r != nil && r.OnChange.S == bundle.Reload {
		warn(r.OnChange.At)
	}

	for _, k := range c.s.keys {
		if slices.Contains(k.reload, u.unit) {
			warn(k.at)
		}
	}
}

// TooNew says which line of b's units the systemd of that version ignores; "" when none, or when the
// version is 0 for unknown.
func (b *Bundle) TooNew(version int) string {
	if b.st == nil {
		return ""
	}

	for _, n := range b.st.needs {
		if version == 0 || version >= n.Since || b.former.has(n.Service) {
			continue // what is in no table counts as of the one after the newest
		}
		if n.Since > unitfile.NewestSystemd { // most likely a slip: no upgrade is known to help
			return fmt.Sprintf("%s; the host has systemd %d, which ignores the line: correct it, or take it out", n.Text, version)
		}
		return fmt.Sprintf("%s; the host has systemd %d, which ignores the line; with systemd %d or newer there: bellhop deploy --retry",
			n.Text, version, n.Since)
	}

	return ""
}
