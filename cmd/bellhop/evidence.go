package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"bellhop/internal/causes"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
)

// What hosts saw of a failure: the end of a unit's journal, the answer of a probe. A run shows one line
// of it, and the verb that shows the rest.

// printEvidence prints all that the hosts of a run saw.
func printEvidence(w io.Writer, p paint, r *history.Run) {
	for _, res := range r.Hosts {
		for _, e := range res.Evidence {
			fmt.Fprintf(w, "  %s: %s\n", p.red(res.Name), headOf(e))
			for _, line := range e.Lines {
				fmt.Fprintf(w, "    %s\n", line)
			}
		}
	}
}

// headOf says what failed, and how.
func headOf(e results.Evidence) string {
	what := or(e.Service, "")
	switch {
	case e.Probe != nil:
		what = "probe " + *e.Probe
	case e.Unit != nil:
		what = "unit " + *e.Unit
	}
	if e.Service != nil && (e.Probe != nil || e.Unit != nil) {
		what += " of " + *e.Service
	}

	how := or(e.Result, "")
	isNamed := strings.Contains(how, fmt.Sprint(e.Exit))
	switch {
	case e.Exit == 0 || isNamed:
	case e.Probe != nil:
		how = joinPlain(how, fmt.Sprintf("status %d", e.Exit))
	default:
		how = joinPlain(how, fmt.Sprintf("exit %d", e.Exit))
	}
	return what + colon(how)
}

// joinPlain joins what is not empty with a comma.
func joinPlain(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

// printFailingLines prints, for each service that failed on a host, the one line that is likely to tell why,
// and at the end what shows the rest.
func printFailingLines(w io.Writer, p paint, indent string, r *history.Run) {
	var lines []causes.Error
	for _, res := range r.Hosts {
		told := map[string]bool{} // services
		for _, e := range res.Evidence {
			if service := or(e.Service, ""); !told[service] {
				told[service], lines = true, append(lines, causes.Error{Host: res.Name, Text: failingLine(e)})
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	printCauses(w, p, indent, causes.Fold(lines, ""))
	fmt.Fprintf(w, "%s%s\n", indent, p.dim("more of it: bellhop history "+r.ID+" --evidence"))
}

// failingLine is the last line that says something, after what it is of: rather one that a program wrote
// than one of systemd's, which tell what the error tells already.
func failingLine(e results.Evidence) string {
	last := ""
	for _, line := range slices.Backward(e.Lines) {
		line = strings.TrimSpace(line)
		if line != "" && !isOfSystemd(line, or(e.Unit, "")) {
			last = line
			break
		}
		last = cmp.Or(last, line)
	}
	if last == "" {
		return headOf(e)
	}
	return cmp.Or(or(e.Unit, ""), or(e.Probe, ""), or(e.Service, "")) + ": " + strings.TrimPrefix(last, or(e.Unit, "")+": ")
}

// isOfSystemd says whether a line in the journal of a unit looks like one of systemd's own.
func isOfSystemd(line, unit string) bool {
	if unit != "" && strings.HasPrefix(line, unit+": ") {
		isCause := strings.Contains(line, "Failed at step ") || strings.Contains(line, "Failed to locate executable ")
		return !isCause
	}
	hasVerb := slices.ContainsFunc([]string{"Starting ", "Started ", "Stopping ", "Stopped ", "Failed to start ", "Reloading ", "Finished "}, func(verb string) bool {
		return strings.HasPrefix(line, verb)
	})
	namesUnit := unit != "" && strings.Contains(line, unit+" - ")
	return hasVerb && (namesUnit || strings.HasSuffix(line, "."))
}
