package host

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/unitfile"
)

// execFailed is the status by which systemd says that it could not start a program.
const execFailed = 203

// program says which program of a unit could not be started, and why, or what systemd waits for in vain, for
// the end of a message; "" when that can't be told.
func (r *task) program(name string, s machine.UnitState) string {
	isExec := s.Exit.Status == execFailed && s.Exit.Signal == 0
	isStart := s.Result == "timeout" || s.Active == "activating"
	i := slices.IndexFunc(r.offer.Manifest.Units, func(u bundle.Unit) bool { return u.Name == name })
	if i < 0 || !isExec && !isStart {
		return ""
	}

	unit := r.w.WantedUnit(r.offer.Manifest.Units[i])
	if isStart {
		return unit.Unready()
	}
	for _, value := range unit.Values("Service", cmp.Or(s.Exit.Line, "ExecStart")) {
		commands, _ := unitfile.Commands(value)
		for _, c := range commands {
			if !path.IsAbs(c.Path) || strings.Contains(c.Path, "%") {
				continue
			}
			if why := r.m.NotStartable(c.Path); why != "" {
				return ": " + why
			}
		}
	}

	return ""
}
