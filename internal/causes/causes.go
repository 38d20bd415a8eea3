// Package causes tells what went wrong on hosts once for each cause: a key that no host accepts is one line with
// the names of the hosts, not one line for each of them.
package causes

import (
	"regexp"
	"strings"
)

// An Error is what went wrong on one host.
type Error struct{ Host, Text string }

// A Cause is what went wrong on some hosts in the same way.
type Cause struct {
	Hosts []string
	Text  string
	alike string // text with HOST in place of the host's name
}

// Fold joins errors that differ by the name of their host alone, in the order they came.
// One that repeats known, the error of the run as a whole, is left out.
func Fold(errs []Error, known string) []Cause {
	var all []Cause
	for _, e := range errs {
		text := withoutName(e.Host, e.Text)
		if known != "" && (e.Text == known || text == known) {
			continue
		}

		alike := nameOf(e.Host).ReplaceAllString(text, "${1}HOST${2}")
		found := false
		for i := range all {
			if all[i].alike == alike {
				all[i].Hosts = append(all[i].Hosts, e.Host)
				all[i].Text = alike
				found = true
				break
			}
		}

		if !found {
			all = append(all, Cause{[]string{e.Host}, text, alike})
		}
	}
	return all
}

// withoutName cuts the names that an error begins with: its reader sees them before it.
func withoutName(host, text string) string {
	for {
		rest, ok := strings.CutPrefix(text, host+": ")
		if !ok {
			return text
		}
		text = rest
	}
}

// nameOf matches a host's name as a word of a text.
func nameOf(host string) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^A-Za-z0-9_.-])` + regexp.QuoteMeta(host) + `($|[^A-Za-z0-9_-])`)
}
