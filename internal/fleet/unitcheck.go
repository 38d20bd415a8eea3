package fleet

import (
	"fmt"

	"bellhop/internal/unitfile"
)

// checkUnit reports what systemd would refuse or pass over in a unit file or drop-in that is no
// template.
func (s *service) checkUnit(u *unitSpec) {
	_, kind := unitfile.SplitName(u.unit)
	file := unitfile.Parse(u.blob.data)

	for _, f := range file.Faults {
		unread := f.Section != "" && !unitfile.Known(kind, f.Section)
		if unread && !f.Kind.Fatal() {
			continue
		}
		p := problemAt(u.src, u.blob.data, pos{f.Line, f.Column}, "%s", faultText(f))
		p.Warning = !f.Kind.Fatal()
		s.problems = append(s.problems, p)
	}
	for _, sec := range file.Sections {
		if unitfile.Known(kind, sec.Name) {
			continue
		}
		p := problemAt(u.src, u.blob.data, pos{sec.Line, sec.Column}, "unknown section [%s]: systemd ignores everything in it%s", sec.Name, didYouMean(sec.Name, unitfile.Sections(kind)))
		p.Warning = true
		s.problems = append(s.problems, p)
	}
}

// faultText says what systemd makes of a line that is no part of a unit.
func faultText(f unitfile.Fault) string {
	switch f.Kind {
	case unitfile.BadHeader:
		return fmt.Sprintf("the section header %q has no \"]\": systemd does not load the unit", f.Text)
	case unitfile.LineTooLong:
		return "a line of more than 1 MiB, continued lines joined: systemd does not load the unit"
	case unitfile.NotUTF8:
		return fmt.Sprintf("%q is not UTF-8: systemd does not load the unit", f.Text)
	case unitfile.TooMany:
		return fmt.Sprintf("more than %d lines in one unit", unitfile.MaxItems)
	case unitfile.NoKey:
		return fmt.Sprintf("%q has nothing before \"=\": systemd ignores the line", f.Text)
	case unitfile.NoSection:
		return fmt.Sprintf("%q stands before the first section: systemd ignores the line", f.Text)
	default:
		return fmt.Sprintf("%q is neither a section nor KEY=VALUE: systemd ignores the line", f.Text)
	}
}
