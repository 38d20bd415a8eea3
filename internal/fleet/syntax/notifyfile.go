package syntax

import (
	"slices"
	"strings"

	"bellhop/internal/fleet/yaml"
)

// A Notify is one target of messages as people write it.
type Notify struct {
	Source yaml.String `yaml:"source" jsonschema:"required" jsonschema_description:"age file that holds one URL: of a messenger (discord://…, ntfy://…, smtp://…), or https://… for a signed POST"`
	On     yaml.List   `yaml:"on" jsonschema:"enum=failed,enum=recovered,enum=away,enum=drift,enum=paused" jsonschema_description:"what is told: failed, recovered, away, drift, paused; the first three by default"`
	Hosts  yaml.String `yaml:"hosts" jsonschema_description:"of which hosts: names, globs, @tags, ! to exclude; all by default"`
}

// NotifyEvents are what a target of messages can be told of.
var NotifyEvents = []string{"failed", "recovered", "away", "drift", "paused"}

// DefaultNotifyEvents are what a target is told of that does not say.
var DefaultNotifyEvents = NotifyEvents[:3]

// SourceTrouble is what is wrong with the path of an age file; "" when nothing is.
func SourceTrouble(source, name string) string {
	isAgeFile := strings.HasPrefix(source, "secrets/") && strings.HasSuffix(source, ".age")
	if !isAgeFile || BadPath("/"+source) != "" {
		return "want an age file, as in secrets/" + name + ".age"
	}
	return ""
}

// IsNotifyEvent says whether a target can be told of that.
func IsNotifyEvent(name string) bool { return slices.Contains(NotifyEvents, name) }
