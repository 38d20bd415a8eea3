package unitfile

import (
	"slices"
	"strings"
)

// Kinds are the endings of units that a unit file may describe.
var Kinds = []string{"service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "scope", "device"}

// QuadletKinds are the endings of files that podman's generator makes units of.
var QuadletKinds = []string{"container", "volume", "network", "kube", "pod", "image", "build"}

// maxName is the longest name of a unit, in bytes.
const maxName = 255

// SplitName parts "x.service" into "x" and "service".
func SplitName(name string) (stem, kind string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}

	return name[:i], name[i+1:]
}

// ValidName tells whether systemd takes name for the name of a unit, a template or an instance.
func ValidName(name string) bool {
	stem, kind := SplitName(name)
	if len(name) > maxName || stem == "" || !slices.Contains(Kinds, kind) {
		return false
	}

	prefix, _, _ := strings.Cut(stem, "@")
	if prefix == "" {
		return false
	}

	return strings.Trim(stem, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@") == ""
}

// IsTemplate tells whether name is of the form foo@.service.
func IsTemplate(name string) bool {
	stem, _ := SplitName(name)
	return strings.HasSuffix(stem, "@")
}

// Instance is foo@a.service of foo@.service.
func Instance(template, of string) string {
	stem, kind := SplitName(template)
	return stem + of + "." + kind
}

// TemplateOf is foo@.service of foo@a.service; "" if name is no instance.
func TemplateOf(name string) string {
	stem, kind := SplitName(name)
	i := strings.IndexByte(stem, '@')
	if i < 0 || i == len(stem)-1 {
		return ""
	}

	return stem[:i+1] + "." + kind
}

// Generated is the service that podman's generator makes of a quadlet.
func (u *Unit) Generated(name string) string {
	stem, kind := SplitName(name)
	section := strings.ToUpper(kind[:1]) + kind[1:]
	if s := u.Value(section, "ServiceName"); s != "" {
		return strings.TrimSuffix(s, ".service") + ".service"
	}

	switch kind {
	case "volume", "network", "pod", "image", "build":
		if at := strings.IndexByte(stem, '@'); at >= 0 {
			return stem[:at] + "-" + kind + stem[at:] + ".service"
		}
		return stem + "-" + kind + ".service"
	}

	return stem + ".service"
}
