package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// What went wrong on hosts is told once for each cause: a key that no host accepts is one line
// with the names of the hosts, not one line for each of them.

// A hostError is what went wrong on one host.
type hostError struct{ host, text string }

// A cause is what went wrong on some hosts in the same way.
type cause struct {
	hosts []string
	text  string
	alike string // text with HOST in place of the host's name
}

// foldCauses joins errors that differ by the name of their host alone, in the order they came.
// One that repeats known, the error of the run as a whole, is left out.
func foldCauses(errs []hostError, known string) []cause {
	var all []cause
	for _, e := range errs {
		text := withoutName(e.host, e.text)
		if known != "" && (e.text == known || text == known) {
			continue
		}

		alike := nameOf(e.host).ReplaceAllString(text, "${1}HOST${2}")
		found := false
		for i := range all {
			if all[i].alike == alike {
				all[i].hosts = append(all[i].hosts, e.host)
				all[i].text = alike
				found = true
				break
			}
		}

		if !found {
			all = append(all, cause{[]string{e.host}, text, alike})
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

// printCauses prints a line or more for each cause, with the names of its hosts before it.
func printCauses(w io.Writer, p paint, indent string, causes []cause) {
	const most = 8
	for _, c := range causes {
		names := make([]string, 0, most+1)
		for i, host := range c.hosts {
			if i == most {
				names = append(names, fmt.Sprintf("and %d more", len(c.hosts)-most))
				break
			}
			names = append(names, p.red(host))
		}
		fmt.Fprintf(w, "%s%s: %s\n", indent, strings.Join(names, ", "), indentRest(c.text, indent+"  "))
	}
}
