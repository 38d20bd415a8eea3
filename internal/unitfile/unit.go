package unitfile

import (
	"slices"
	"strings"
)

// A Unit is what a unit file and its drop-ins say together. The zero value says nothing.
type Unit struct {
	values map[sectionKey][]string
}

type sectionKey struct{ section, key string }

// Add adds the assignments of a file. The unit file comes first, its drop-ins follow in the
// order of their names. An empty assignment forgets what came before it.
func (u *Unit) Add(f *File) {
	if u.values == nil {
		u.values = map[sectionKey][]string{}
	}

	for _, a := range f.Assignments {
		k := sectionKey{a.Section, a.Key}
		if a.Value == "" {
			delete(u.values, k)
			continue
		}
		u.values[k] = append(u.values[k], a.Value)
	}
}

// Read is a Unit of texts: a unit file and its drop-ins.
func Read(texts ...[]byte) *Unit {
	u := &Unit{}
	for _, text := range texts {
		u.Add(Parse(text))
	}

	return u
}

// Value is what the last assignment of a key says; "" when there is none.
func (u *Unit) Value(section, key string) string {
	values := u.values[sectionKey{section, key}]
	if len(values) == 0 {
		return ""
	}

	return values[len(values)-1]
}

// Values are all assignments of a key that count.
func (u *Unit) Values(section, key string) []string { return u.values[sectionKey{section, key}] }

// Words are the words of all assignments of a key that is a list.
func (u *Unit) Words(section, key string) []string {
	var words []string
	for _, v := range u.values[sectionKey{section, key}] {
		more, _ := Words(v) // what stands before a fault counts
		words = append(words, more...)
	}

	return words
}

// Has tells whether any assignment of a section counts.
func (u *Unit) Has(section string) bool {
	for k := range u.values {
		if k.section == section {
			return true
		}
	}

	return false
}

// installKeys are the keys of [Install] by which "systemctl enable" does something.
var installKeys = []string{"WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"}

// Installs tells whether "systemctl enable" does something for the unit.
func (u *Unit) Installs() bool {
	return slices.ContainsFunc(installKeys, func(key string) bool { return len(u.Words("Install", key)) > 0 })
}

// Install lists what [Install] says, one "KEY=WORD WORD" for each key: equal lists enable alike.
func (u *Unit) Install() []string {
	var lines []string
	for k := range u.values {
		if k.section == "Install" {
			lines = append(lines, k.key+"="+strings.Join(u.Words(k.section, k.key), " "))
		}
	}

	slices.Sort(lines)
	return lines
}

// Oneshot tells whether the unit is done when its program has ended.
func (u *Unit) Oneshot() bool {
	remains, _ := ParseBool(u.Value("Service", "RemainAfterExit"))
	return u.Value("Service", "Type") == "oneshot" && !remains
}

// Activates names the unit that the timer, socket or path unit of that name starts; "" for
// units of other kinds.
func (u *Unit) Activates(name string) string {
	stem, kind := SplitName(name)
	switch kind {
	case "timer":
		return cmpOr(u.Value("Timer", "Unit"), stem+".service")
	case "path":
		return cmpOr(u.Value("Path", "Unit"), stem+".service")
	case "socket":
		accept, _ := ParseBool(u.Value("Socket", "Accept"))
		if accept {
			stem, _, _ = strings.Cut(stem, "@")
			return cmpOr(u.Value("Socket", "Service"), stem+"@.service")
		}
		return cmpOr(u.Value("Socket", "Service"), stem+".service")
	}

	return ""
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}

	return b
}

// ParseBool reads a boolean; ok is false when systemd would not take s for one.
func ParseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}

	return false, false
}
