package unitfile

import (
	"fmt"
	"slices"
	"strings"
)

// A Problem is something in a unit file that systemd refuses, ignores, or does not know.
type Problem struct {
	Pos
	Message string
	Refused bool // no systemd from OldestSystemd to NewestSystemd does what the file says
	// Since is the first systemd that knows the key or value, NewestSystemd+1 for what none in the
	// table knows; 0 when every version is the same. What a host has before it ignores the line.
	Since int
	Key   string // "Service.Restart"; "" when no key is meant
}

// Check compares a unit file or drop-in with the tables. kind is the ending of the unit:
// "service", "timer", "container" …
func Check(kind string, f *File) []Problem {
	c := &checker{kind: kind}
	for _, fault := range f.Faults {
		c.fault(fault)
	}

	for _, s := range f.Sections {
		if len(c.problems) >= maxProblems {
			break
		}
		c.section(s)
	}

	for _, a := range f.Assignments {
		if len(c.problems) >= maxProblems {
			break
		}
		c.assignment(a)
	}

	return c.problems
}

// maxProblems bounds what is reported of one file.
const maxProblems = 200

type checker struct {
	kind     string
	problems []Problem
}

func (c *checker) add(p Problem) { c.problems = append(c.problems, p) }

// reader is who reads the file.
func (c *checker) reader() string {
	if _, ok := quadletSections[c.kind]; ok {
		return "podman"
	}

	return "systemd"
}

// fault reports a line that is no part of the unit.
func (c *checker) fault(f Fault) {
	unread := f.Section != "" && !Known(c.kind, f.Section) || strings.HasPrefix(f.Section, "X-")
	if unread && !f.Kind.Fatal() {
		return
	}

	p := Problem{Pos: f.Pos, Refused: true}
	switch f.Kind {
	case BadHeader:
		p.Message = fmt.Sprintf("the section header %q has no \"]\": systemd does not load the unit", f.Text)
	case LineTooLong:
		p.Message = "a line of more than 1 MiB, continued lines joined: systemd does not load the unit"
	case NotUTF8:
		p.Message = fmt.Sprintf("%q is not UTF-8: systemd does not load the unit", f.Text)
	case TooMany:
		p.Message = fmt.Sprintf("more than %d lines in one unit", MaxItems)
	case NoKey:
		p.Message = fmt.Sprintf("%q has nothing before \"=\": systemd ignores the line", f.Text)
	case NoSection:
		p.Message = fmt.Sprintf("%q is before the first section: systemd ignores the line", f.Text)
	default:
		p.Message = fmt.Sprintf("%q is neither a section nor KEY=VALUE: systemd ignores the line", f.Text)
		p.Refused = f.Section == "Install"
	}

	c.add(p)
}

// section reports a header that systemd does not know. A slip is refused, since what is below it
// is lost; another name may be meant for another program.
func (c *checker) section(s Section) {
	if Known(c.kind, s.Name) {
		return
	}

	p := Problem{Pos: s.Pos, Message: fmt.Sprintf("unknown section [%s]: %s ignores everything in it", printable(s.Name), c.reader())}

	near := meant(s.Name, Sections(c.kind))
	_, ofOther := keyTable()[s.Name]
	switch {
	case near != "":
		p.Message += fmt.Sprintf("; did you mean [%s]?", near)
		p.Refused = true
	case ofOther:
		p.Message = fmt.Sprintf("section [%s] in a .%s unit: %s ignores everything in it", s.Name, c.kind, c.reader())
		p.Refused = true
	}

	c.add(p)
}

// meant is the candidate that was most likely meant by name.
func meant(name string, candidates []string) string {
	plain := clean(name)
	if plain != name && slices.Contains(candidates, plain) {
		return plain
	}

	return Near(plain, candidates)
}

// clean is a name as it was most likely meant: without brackets, and with plain spaces gone.
func clean(name string) string {
	const invisible = "\u00a0\ufeff\u200b"
	return strings.TrimFunc(strings.Trim(name, "[]"), func(r rune) bool { return r <= ' ' || strings.ContainsRune(invisible, r) })
}

// printable shows a name with its invisible characters.
func printable(name string) string {
	quoted := fmt.Sprintf("%+q", name)
	if quoted[1:len(quoted)-1] == name {
		return name
	}

	return quoted[1 : len(quoted)-1]
}

// assignment reports an unknown key, and a value that systemd does not take.
func (c *checker) assignment(a Assignment) {
	passed := c.reader() == "podman" && slices.Contains([]string{"Unit", "Service"}, a.Section)
	if strings.HasPrefix(a.Section, "X-") || !Known(c.kind, a.Section) {
		return
	}

	info, ok := keyTable()[a.Section][a.Key]
	if !ok {
		c.unknownKey(a)
		return
	}

	if info.since > OldestSystemd {
		c.add(Problem{Pos: a.Pos, Since: info.since, Key: a.Section + "." + a.Key,
			Message: fmt.Sprintf("%s= needs systemd %d", a.Key, info.since)})
	}

	if c.reader() == "podman" && !passed {
		return // the words of podman's keys are podman's
	}

	e := checkValue(a.Section, a.Key, info.kind, a.Value)
	if e == nil {
		return
	}

	p := Problem{Pos: a.Pos, Key: a.Section + "." + a.Key}
	value := shorten(a.Value)
	switch {
	case e.since > 0:
		p.Since, p.Message = e.since, fmt.Sprintf("%s=%s: %s", a.Key, value, e.reason)
	case e.fatal:
		p.Refused, p.Message = true, fmt.Sprintf("%s=%s: %s; systemd does not load the unit", a.Key, value, e.reason)
	case a.Section == "Install":
		p.Refused, p.Message = true, fmt.Sprintf("%s=%s: %s; systemd does not enable the unit", a.Key, value, e.reason)
	default:
		p.Refused, p.Message = true, fmt.Sprintf("%s=%s: %s; systemd ignores the line", a.Key, value, e.reason)
	}

	if near := meant(a.Value, e.among); near != "" {
		p.Message += fmt.Sprintf("; did you mean %q?", near)
	}

	c.add(p)
}

// unknownKey reports a key that is in no table. Below [Install] it is refused, and so is a key of
// [Install] in another section (a line before the header that ends in a backslash takes the header
// in): what it should do at boot is lost without a word.
func (c *checker) unknownKey(a Assignment) {
	if strings.HasPrefix(a.Key, "X-") || strings.HasPrefix(a.Key, "-") {
		return
	}

	p := Problem{Pos: a.Pos, Key: a.Section + "." + a.Key, Refused: a.Section == "Install", Since: NewestSystemd + 1,
		Message: fmt.Sprintf("unknown key %s= in [%s]: no systemd up to %d reads it", printable(a.Key), a.Section, NewestSystemd)}
	isSystemds := slices.Contains([]string{"Unit", "Service", "Install"}, a.Section)
	if c.reader() == "podman" && !isSystemds {
		p.Since = 0
		p.Message = fmt.Sprintf("unknown key %s= in [%s]: podman 5 makes no unit of a file that has it", printable(a.Key), a.Section)
	}

	if a.Section == "Install" {
		p.Since = 0
		p.Message = fmt.Sprintf("unknown key %s= in [Install]: systemd ignores the line, and the unit is not enabled by it", printable(a.Key))
	}

	if other := c.sectionOf(a.Key); other != "" {
		p.Message += fmt.Sprintf("; it is a key of [%s]", other)

		if other == "Install" {
			p.Refused, p.Since = true, 0 // no newer systemd helps
			p.Message += ", and the unit is not enabled by it here"
		}
	} else if near := meant(a.Key, Keys(a.Section)); near != "" {
		p.Message += fmt.Sprintf("; did you mean %s=?", near)
	}

	c.add(p)
}

// sectionOf is the section, of those that this kind of file has, in which a key is known.
func (c *checker) sectionOf(key string) string {
	for _, section := range Sections(c.kind) {
		if _, ok := keyTable()[section][key]; ok {
			return section
		}
	}

	return ""
}

// shorten is the beginning of a value, for a message.
func shorten(value string) string {
	const most = 80
	if len(value) <= most {
		return value
	}

	return strings.ToValidUTF8(value[:most], "") + "…"
}
