package unitfile

import (
	"fmt"
	"slices"
	"strings"
)

// CheckUnit reports what makes systemd refuse a unit as a whole: a unit file with all its drop-ins.
// Only units whose own file is known are to be asked about. Positions are not set; Key says where.
func CheckUnit(name string, u *Unit) []Problem {
	_, kind := SplitName(name)
	switch kind {
	case "service":
		return checkService(u)
	case "socket":
		return checkSocket(u)
	case "timer":
		return checkTimer(u)
	case "path":
		return checkPath(u)
	case "mount", "automount":
		return checkMount(name, kind, u)
	case "container", "volume", "network", "kube", "pod", "image", "build":
		return checkQuadlet(kind, u)
	}

	return nil
}

// refusal is a rule of systemd that a unit breaks.
func refusal(key, format string, args ...any) Problem {
	return Problem{Refused: true, Key: key, Message: fmt.Sprintf(format, args...) + ": systemd does not load the unit"}
}

// serviceType is Type=, or what systemd takes when it is missing.
func serviceType(u *Unit) string {
	switch t := u.Value("Service", "Type"); {
	case t != "":
		return t
	case u.Value("Service", "BusName") != "":
		return "dbus"
	case len(u.Values("Service", "ExecStart")) > 0:
		return "simple"
	}

	return "oneshot"
}

func checkService(u *Unit) []Problem {
	var ps []Problem
	starts := commandCount(u.Values("Service", "ExecStart"))
	stops := commandCount(u.Values("Service", "ExecStop"))
	kind := serviceType(u)
	remains, _ := ParseBool(u.Value("Service", "RemainAfterExit"))
	action := u.Value("Unit", "SuccessAction")
	hasAction := action != "" && action != "none"
	oneshot := kind == "oneshot"

	switch {
	case starts == 0 && stops == 0 && !hasAction:
		ps = append(ps, refusal("Service.ExecStart", "the service has no ExecStart="))
	case starts == 0 && !oneshot:
		ps = append(ps, refusal("Service.Type", "Type=%s without ExecStart=, which only Type=oneshot may lack", kind))
	case starts == 0 && !remains && !hasAction:
		ps = append(ps, refusal("Service.ExecStop", "the service has neither ExecStart= nor RemainAfterExit=yes"))
	case starts > 1 && !oneshot:
		ps = append(ps, refusal("Service.ExecStart", "%d programs in ExecStart=, which only Type=oneshot may have (in a drop-in, an empty ExecStart= before it forgets the first)", starts))
	}

	return append(ps, checkServiceType(u, kind)...)
}

// checkServiceType reports what does not go together with Type=.
func checkServiceType(u *Unit, kind string) []Problem {
	var ps []Problem
	oneshot := kind == "oneshot"
	restart := u.Value("Service", "Restart")
	if oneshot && slices.Contains([]string{"always", "on-success"}, restart) {
		ps = append(ps, refusal("Service.Restart", "Restart=%s with Type=oneshot", restart))
	}

	if oneshot && u.Value("Service", "ExitType") == "cgroup" {
		ps = append(ps, refusal("Service.ExitType", "ExitType=cgroup with Type=oneshot"))
	}

	if kind == "dbus" && u.Value("Service", "BusName") == "" {
		ps = append(ps, refusal("Service.Type", "Type=dbus without BusName="))
	}

	if kill := u.Value("Service", "KillMode"); u.Value("Service", "PAMName") != "" && (kill == "process" || kill == "none") {
		ps = append(ps, refusal("Service.KillMode", "PAMName= with KillMode=%s", kill))
	}

	return ps
}

// commandCount counts the programs of Exec…= lines; what systemd ignores does not count.
func commandCount(values []string) int {
	n := 0
	for _, v := range values {
		commands, _ := Commands(v)
		n += len(commands)
	}

	return n
}

func checkSocket(u *Unit) []Problem {
	listens := slices.ContainsFunc(Keys("Socket"), func(key string) bool {
		return strings.HasPrefix(key, "Listen") && len(u.Values("Socket", key)) > 0
	})
	accept, _ := ParseBool(u.Value("Socket", "Accept"))
	switch {
	case !listens:
		return []Problem{refusal("Socket.ListenStream", "the socket has no ListenStream= or other Listen…=")}
	case accept && u.Value("Socket", "Service") != "":
		return []Problem{refusal("Socket.Service", "Service= with Accept=yes")}
	}

	return nil
}

func checkTimer(u *Unit) []Problem {
	keys := []string{"OnCalendar", "OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec"}
	has := slices.ContainsFunc(keys, func(key string) bool { return len(u.Values("Timer", key)) > 0 })
	for _, key := range []string{"OnClockChange", "OnTimezoneChange"} {
		on, _ := ParseBool(u.Value("Timer", key))
		has = has || on
	}

	if has {
		return nil
	}

	return []Problem{refusal("Timer.OnCalendar", "the timer has no OnCalendar= or other On…=")}
}

func checkPath(u *Unit) []Problem {
	for _, key := range []string{"PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty"} {
		if len(u.Values("Path", key)) > 0 {
			return nil
		}
	}

	return []Problem{refusal("Path.PathExists", "the path unit has no PathExists= or other path")}
}

// checkMount holds Where= against the unit's name, which is the path with "-" for "/".
func checkMount(name, kind string, u *Unit) []Problem {
	section := kindSections[kind]
	where := u.Value(section, "Where")
	if where != "" && !hasSpecifier(where) && Escape(where)+"."+kind != name {
		return []Problem{refusal(section+".Where", "Where=%s belongs in %s.%s, not in %s", where, Escape(where), kind, name)}
	}

	if kind == "mount" && u.Value("Mount", "What") == "" {
		return []Problem{refusal("Mount.What", "the mount has no What=")}
	}

	return nil
}

// plainInNames are the bytes of a path that stand for themselves in the name of a unit.
const plainInNames = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_"

// Escape is the name of the unit for a path, as "systemd-escape --path" has it.
func Escape(path string) string {
	var b strings.Builder
	for i, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		if i > 0 {
			b.WriteByte('-')
		}
		for j := range len(part) {
			c := part[j]
			isPlain := strings.IndexByte(plainInNames, c) >= 0
			isDot := c == '.' && b.Len() > 0
			if isPlain || isDot {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
	}

	if b.Len() == 0 {
		return "-"
	}

	return b.String()
}

// checkQuadlet reports what podman's generator needs and does not find.
func checkQuadlet(kind string, u *Unit) []Problem {
	section := quadletSections[kind]
	lacks := func(keys ...string) []Problem {
		for _, key := range keys {
			if u.Value(section, key) != "" {
				return nil
			}
		}
		return []Problem{{Refused: true, Key: section + "." + keys[0],
			Message: fmt.Sprintf("[%s] has no %s=: podman makes no unit of the file", section, strings.Join(keys, "= or "))}}
	}

	switch kind {
	case "container":
		return lacks("Image", "Rootfs")
	case "kube":
		return lacks("Yaml")
	case "image":
		return lacks("Image")
	case "build":
		return lacks("ImageTag")
	}

	return nil
}
