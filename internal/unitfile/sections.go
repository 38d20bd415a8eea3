package unitfile

import (
	"slices"
	"strings"
)

// kindSections are the sections, beside [Unit] and [Install], that systemd reads in a unit of a kind.
var kindSections = map[string]string{
	"service": "Service", "socket": "Socket", "timer": "Timer", "path": "Path", "mount": "Mount",
	"automount": "Automount", "swap": "Swap", "slice": "Slice", "scope": "Scope",
}

// quadletSections are the sections that podman's generator reads in a file of a kind.
var quadletSections = map[string]string{
	"container": "Container", "volume": "Volume", "network": "Network", "kube": "Kube", "pod": "Pod",
	"image": "Image", "build": "Build",
}

// Sections are the sections that are read in a file of a kind: "service", "container" …
func Sections(kind string) []string {
	sections := []string{"Unit", "Install"}
	if s, ok := kindSections[kind]; ok {
		return append(sections, s)
	}

	if s, ok := quadletSections[kind]; ok {
		return append(sections, "Service", s, "Quadlet") // [Service] goes to the unit that podman makes
	}

	return sections
}

// Known tells whether a section is read in a file of a kind, or is for others: "X-…".
func Known(kind, section string) bool {
	return strings.HasPrefix(section, "X-") || slices.Contains(Sections(kind), section)
}
