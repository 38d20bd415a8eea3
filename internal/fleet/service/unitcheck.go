package service

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/unitfile"
)

// UnitTexts are unit files and drop-ins by their path on the host; templates are rendered.
type UnitTexts map[string][]byte

// readUnitTexts looks at the unit files that are no templates, once for all hosts.
func (s *reader) readUnitTexts() {
	texts := UnitTexts{}
	for _, u := range s.Units {
		if u.Template == nil {
			texts[u.Path] = u.Blob.Data
		}
	}

	c := s.CheckUnits(texts, false)
	s.Problems = append(s.Problems, c.Problems...)
	s.Refs, s.Needs, s.programs = c.Refs, c.Needs, c.programs
	s.made = s.makes()
}

// A unitCheck is what is found in the units of one service.
type unitCheck struct {
	s        *Service
	Problems problem.Problems
	Refs     []Ref         // names that somebody must make
	Needs    []SystemdNeed // what not every systemd knows
	programs []programRef
	broken   map[string]bool // units with a refused line
}

// A SystemdNeed is a line of a unit that older versions of systemd ignore.
type SystemdNeed struct {
	Since int    // the first version that knows it
	Text  string // "services/web/web.service:3: OpenFile= needs systemd 253"

	Service string `json:",omitempty"` // whose unit it is
}

// CheckUnits looks at the units in texts. A unit that a template has a part in is looked at when
// the template was rendered (rendered), any other one once for all hosts.
func (s *Service) CheckUnits(texts UnitTexts, rendered bool) *unitCheck {
	c := &unitCheck{s: s, broken: map[string]bool{}}
	templates := map[string]bool{}
	for i := range s.Units {
		u := &s.Units[i]
		data, ok := texts[u.Path]
		if ok && (u.Template != nil) == rendered {
			c.lines(u, data)
		}
		if u.Template != nil {
			templates[u.Name] = true
		}
	}

	for i := range s.Units {
		u := &s.Units[i]
		if !u.IsDropin && templates[u.Name] == rendered {
			c.whole(u, texts)
		}
	}

	return c
}

// lines reports what is wrong with one file.
func (c *unitCheck) lines(u *Unit, data []byte) {
	_, kind := unitfile.SplitName(u.Name)
	file := unitfile.Parse(data)
	for _, p := range unitfile.Check(kind, file) {
		q := c.at(u, p, data, p.Message)
		if p.Since > unitfile.OldestSystemd {
			c.Needs = append(c.Needs, SystemdNeed{Since: p.Since, Text: fmt.Sprintf("%s:%d: %s", q.File, q.Line, q.Message)})
		}
		known := p.Since > 0 && p.Since <= unitfile.NewestSystemd
		if known {
			continue // it is as wanted on the hosts that have it
		}
		q.Warning = !p.Refused
		c.Problems = append(c.Problems, q)
		c.broken[u.Name] = c.broken[u.Name] || p.Refused
	}

	c.collect(u, file, data)
}

// at is a problem at its place. Of a template the place is where the same key is assigned.
func (c *unitCheck) at(u *Unit, p unitfile.Problem, data []byte, message string) *problem.Problem {
	where := problem.Pos{Line: p.Line, Column: p.Column}
	if u.Template == nil {
		return problem.At(u.Source, data, where, "%s", message)
	}

	_, key, _ := strings.Cut(p.Key, ".")
	return problem.At(u.Source, u.Blob.Data, keyLine(u.Blob.Data, key), "service %s: %s", c.s.Name, message)
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
func (c *unitCheck) whole(u *Unit, texts UnitTexts) {
	if len(texts[u.Path]) == 0 {
		return // a problem already, or its template does not render
	}

	parts := []*Unit{u}
	for i := range c.s.Units {
		if d := &c.s.Units[i]; d.IsDropin && d.Name == u.Name {
			parts = append(parts, d)
		}
	}

	unit := &unitfile.Unit{}
	for _, part := range parts {
		unit.Add(unitfile.Parse(texts[part.Path]))
	}

	for _, p := range unitfile.CheckUnit(u.Name, unit) {
		if c.broken[u.Name] {
			break // the line that was refused is the cause
		}
		part, place := findKey(parts, texts, p.Key)
		p.Pos = place
		q := c.at(part, p, texts[part.Path], p.Message)
		q.Warning = !p.Refused
		c.Problems = append(c.Problems, q)
	}

	c.activated(u, unit, texts)
	c.reloads(u, unit)
	c.installs(u, unit, parts, texts)
}

// installs warns of an [Install] section that enables nothing: who wrote it meant the unit to be
// enabled and started, and systemd does neither.
func (c *unitCheck) installs(u *Unit, unit *unitfile.Unit, parts []*Unit, texts UnitTexts) {
	hasSection := slices.ContainsFunc(unitfile.Parse(texts[u.Path]).Sections, func(s unitfile.Section) bool { return s.Name == "Install" })
	onlyDefault := unit.Value("Install", "DefaultInstance") != ""
	if !hasSection || unit.Installs() || onlyDefault {
		return
	}

	part, place := findKey(parts, texts, "Install.")
	p := c.at(part, unitfile.Problem{Pos: place, Key: "Install.WantedBy"}, texts[part.Path],
		"[Install] names no unit: this one is neither enabled nor started; write WantedBy=multi-user.target, or leave the section out")
	p.Warning = true
	c.Problems = append(c.Problems, p)
}

// findKey is where a key is assigned last, else the header of its section, else the beginning.
func findKey(parts []*Unit, texts UnitTexts, key string) (*Unit, unitfile.Pos) {
	section, name, _ := strings.Cut(key, ".")
	found, place := parts[0], unitfile.Pos{Line: 1, Column: 1}
	isHeader := true
	for _, part := range parts {
		file := unitfile.Parse(texts[part.Path])
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
func (c *unitCheck) reloads(u *Unit, unit *unitfile.Unit) {
	if u.IsQuadlet || !strings.HasSuffix(u.Name, ".service") {
		return
	}

	can := len(unit.Values("Service", "ExecReload")) > 0 || unit.Value("Service", "Type") == "notify-reload"
	if can {
		return
	}

	const message = "%s has no ExecReload=: a reload of it does nothing, and systemd calls it failed"
	warn := func(at problem.Pos) {
		p := problem.At(c.s.Source.Name, c.s.Source.Data, at, message, u.Name)
		p.Warning = true
		c.Problems = append(c.Problems, p)
	}

	if r := c.s.Rules[u.Name]; r != nil && r.OnChange.S == bundle.Reload {
		warn(r.OnChange.At)
	}

	for _, k := range c.s.Keys {
		if slices.Contains(k.Reload, u.Name) {
			warn(k.At)
		}
	}
}
