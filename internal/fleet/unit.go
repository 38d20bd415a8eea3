package fleet

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A unitText is a unit file as systemd parses it: continued lines joined, comments gone,
// an empty assignment forgetting what stood before it.
type unitText struct {
	values map[string][]string // "Section.Key" to its assignments
}

// A strayLine is a line that systemd would pass over with a warning.
type strayLine struct {
	line int
	text string
}

// parseUnit adds the assignments in data to u; drop-ins are parsed after their unit.
func (u *unitText) parse(data []byte) (stray []strayLine) {
	if u.values == nil {
		u.values = map[string][]string{}
	}
	section, joined, start := "", "", 0
	no := 0
	for len(data) > 0 {
		no++
		var raw []byte
		raw, data, _ = bytes.Cut(data, []byte{'\n'})
		line := strings.TrimRight(string(raw), "\r")
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue // also in the middle of a continued line, as systemd has it
		}
		if joined == "" {
			start = no
		}
		if strings.HasSuffix(line, "\\") {
			joined += line[:len(line)-1] + " "
			if len(data) > 0 {
				continue
			}
			line = ""
		}
		if !u.assign(&section, strings.TrimSpace(joined+line)) {
			stray = append(stray, strayLine{start, strings.TrimSpace(joined + line)})
		}
		joined = ""
	}
	if rest := strings.TrimSpace(joined); rest != "" && !u.assign(&section, rest) {
		stray = append(stray, strayLine{start, rest})
	}
	return stray
}

// sections are what systemd and its Quadlet generator read; X- is for everybody else.
var sections = []string{
	"Unit", "Install", "Service", "Socket", "Timer", "Path", "Mount", "Automount", "Swap", "Slice", "Scope", "Target", "Device",
	"Container", "Pod", "Volume", "Network", "Kube", "Image", "Build", "Quadlet",
}

// assign takes one logical line; false when it is none that systemd knows.
func (u *unitText) assign(section *string, line string) bool {
	if line == "" {
		return true
	}
	if line[0] == '[' {
		if line[len(line)-1] != ']' || len(line) < 3 {
			return false
		}
		*section = line[1 : len(line)-1]
		return slices.Contains(sections, *section) || strings.HasPrefix(*section, "X-")
	}
	key, val, ok := strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" || *section == "" {
		return false
	}
	name := *section + "." + key
	if val = strings.TrimSpace(val); val == "" {
		delete(u.values, name)
		return true
	}
	u.values[name] = append(u.values[name], val)
	return true
}

// last is what the last assignment says.
func (u *unitText) last(section, key string) string {
	vs := u.values[section+"."+key]
	if len(vs) == 0 {
		return ""
	}
	return vs[len(vs)-1]
}

// words are all assignments of a list-valued key, parted at blanks.
func (u *unitText) words(section, key string) []string {
	return strings.Fields(strings.Join(u.values[section+"."+key], " "))
}

// installed tells whether systemctl enable would do something for it.
func (u *unitText) installed() bool {
	for _, key := range []string{"WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"} {
		if len(u.words("Install", key)) > 0 {
			return true
		}
	}
	return false
}

// oneshot tells whether it is done when its program has ended.
func (u *unitText) oneshot() bool {
	return u.last("Service", "Type") == "oneshot" && !truth(u.last("Service", "RemainAfterExit"))
}

func truth(s string) bool {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true
	}
	return false
}

// activates names the unit that a timer, socket or path of that name starts; "" for others.
func (u *unitText) activates(name string) string {
	stem, kind := splitUnit(name)
	switch kind {
	case "timer":
		return orUnit(u.last("Timer", "Unit"), stem+".service")
	case "path":
		return orUnit(u.last("Path", "Unit"), stem+".service")
	case "socket":
		if s := u.last("Socket", "Service"); s != "" {
			return s
		}
		if truth(u.last("Socket", "Accept")) {
			return stem + "@.service"
		}
		return stem + ".service"
	}
	return ""
}

func orUnit(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var unitKinds = []string{"service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice"}
var quadletKinds = []string{"container", "volume", "network", "kube", "pod"}

var unitStem = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?$`)
var instanceRule = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+$`)

// splitUnit parts "x.service" into "x" and "service".
func splitUnit(name string) (stem, kind string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	return name[:i], name[i+1:]
}

// isUnit tells whether name ends as a unit file of systemd does.
func isUnit(name string) bool {
	_, kind := splitUnit(name)
	return slices.Contains(unitKinds, kind)
}

// isQuadlet tells whether name ends as a file for podman's generator does.
func isQuadlet(name string) bool {
	_, kind := splitUnit(name)
	return slices.Contains(quadletKinds, kind)
}

// checkUnitName says what is wrong with a unit's name; "" when nothing is.
func checkUnitName(name string) string {
	stem, _ := splitUnit(name)
	switch {
	case len(name) > 255:
		return "longer than 255"
	case !unitStem.MatchString(stem):
		return "want letters, digits and : _ . - \\, and at most one @ that is not first"
	case strings.HasSuffix(stem, "-"):
		return "a drop-in for all units of a prefix is not supported"
	case slices.Contains([]string{"bellhop-apply.service", "bellhop-settle.service", "run-keys.mount"}, name):
		return "this name is bellhop's own"
	}
	return ""
}

// isTemplate tells whether name is foo@.service.
func isTemplate(name string) bool {
	stem, _ := splitUnit(name)
	return strings.HasSuffix(stem, "@")
}

// instance is foo@a.service of foo@.service.
func instance(template, of string) string {
	stem, kind := splitUnit(template)
	return stem + of + "." + kind
}

// templateOf is foo@.service of foo@a.service, "" if name is no instance.
func templateOf(name string) string {
	stem, kind := splitUnit(name)
	i := strings.IndexByte(stem, '@')
	if i < 0 || i == len(stem)-1 {
		return ""
	}
	return stem[:i+1] + "." + kind
}

// generated is the unit that podman's generator makes of a quadlet.
func generated(name string, u *unitText) string {
	stem, kind := splitUnit(name)
	section := strings.ToUpper(kind[:1]) + kind[1:]
	if s := u.last(section, "ServiceName"); s != "" {
		return strings.TrimSuffix(s, ".service") + ".service"
	}
	switch kind {
	case "volume", "network", "pod":
		if at := strings.IndexByte(stem, '@'); at >= 0 {
			return stem[:at] + "-" + kind + stem[at:] + ".service"
		}
		return stem + "-" + kind + ".service"
	}
	return stem + ".service"
}

func (s strayLine) String() string {
	name := strings.Trim(s.text, "[]")
	if s.text != "["+name+"]" {
		return fmt.Sprintf("%q is no assignment and no section", s.text)
	}
	return fmt.Sprintf("systemd knows no section %s, and passes over what stands below it%s", s.text, didYouMean(name, sections))
}
