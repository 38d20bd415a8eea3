package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"bellhop/internal/history"
)

// What looks at hosts found, below the table of status: nothing where all is well.

// mostFailed is how many failed units of a host status names.
const mostFailed = 5

func printLooks(w io.Writer, p paint, hosts []history.HostStatus, now time.Time) {
	var lines []string
	for _, h := range hosts {
		for _, text := range lookLines(h, now) {
			lines = append(lines, p.yellow(h.Name+": ")+text)
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(lines, "\n"))
	}
}

// lookLines is what a person should know of a host, each with what to type.
func lookLines(h history.HostStatus, now time.Time) (lines []string) {
	if h.Units != nil {
		failed := h.Units.Failed
		for _, u := range failed[:min(len(failed), mostFailed)] {
			lines = append(lines, fmt.Sprintf("%s failed (%s), %s: bellhop logs %s %s", u.Name, u.Result, agoOr(now, u.Since), h.Name, u.Name))
		}
		if more := len(failed) - mostFailed; more > 0 {
			lines = append(lines, fmt.Sprintf("%d more units failed: bellhop drift %s", more, h.Name))
		}
	}
	if h.Drift != nil && *h.Drift > 0 {
		lines = append(lines, fmt.Sprintf("%s changed by hand: bellhop drift %s", count(*h.Drift, "thing"), h.Name))
	}
	if missing := h.Keys.Expected - h.Keys.Present; missing > 0 && h.AwaySince == nil && h.State == history.Current {
		lines = append(lines, fmt.Sprintf("%s missing: bellhop key push %s", count(missing, "key"), h.Name))
	}
	if h.RebootRequired != nil && *h.RebootRequired {
		lines = append(lines, "reboot required: bellhop reboot "+h.Name)
	}
	return lines
}
