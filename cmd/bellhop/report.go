package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/internal/causes"
	"bellhop/internal/history"
)

// How the fleet and its past read to a person. The JSON of both is history's own.

// running is shown in the place of an outcome as long as there is none.
const running history.Outcome = "running"

// stateOrder lists states as a person wants to hear them counted.
var stateOrder = []history.State{
	history.Current, history.Deploying, history.Behind, history.Pending, history.HeldBack, history.Failed, history.RolledBack,
	history.Unconfirmed, history.Refused, history.Held, history.Unknown, history.Never, history.Released,
}

// printStatus shows the fleet; served says that a running server was asked.
func printStatus(w io.Writer, p paint, s history.Status, served bool, now time.Time) {
	printFleet(w, p, s, served, now)
	if len(s.Hosts) == 0 {
		return
	}

	fmt.Fprintln(w)
	printHosts(w, p, s.Hosts, now)
	printTroubles(w, p, s.Hosts, now)
}

// printFleet shows what is said of the fleet as a whole.
func printFleet(w io.Writer, p paint, s history.Status, served bool, now time.Time) {
	head := []string{p.bold(or(s.Network, "no network yet"))}
	if s.Branch != nil {
		head = append(head, *s.Branch)
	}
	if s.Commit != nil {
		head = append(head, short(*s.Commit))
	}
	if !served {
		head = append(head, p.dim("(no server)"))
	}

	if s.Pause != nil {
		fmt.Fprintln(w, p.yellow(s.Pause.Text(s.Waiting)))
	}
	printHolds(w, p, s.Hosts, now)
	fmt.Fprintf(w, "%s: %s\n", strings.Join(head, " "), countStates(p, s.Hosts))
	if s.SyncError != nil { // first, since all that follows may look well
		fmt.Fprintln(w, p.red("the last look at the repo failed, first "+ago(now, s.SyncError.Since)+": "+indentRest(s.SyncError.Error, "  ")))
	}
	if l := s.Loading; l != nil {
		fmt.Fprintf(w, "loading %s for %v\n", short(l.Commit), now.Sub(l.Since).Round(time.Second))
	}
	if s.Poll != nil {
		fmt.Fprintln(w, p.dim("polls "+pollLine(s.Poll)))
	}
}

// printHosts shows a row for each host.
func printHosts(w io.Writer, p paint, hosts []history.HostStatus, now time.Time) {
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "HOST", "STATE", "COMMIT", "DEPLOYED", "KEYS", "SEEN")
	for _, h := range hosts {
		t.painted(p.hostHue(h), h.Name, reasonedState(h), short(or(h.Commit, "–")), agoOr(now, h.DeployedAt), keysOf(h.Keys), seenText(now, h))
	}

	t.write(w)
}

// printTroubles says of each host what is the matter, and what to type.
func printTroubles(w io.Writer, p paint, hosts []history.HostStatus, now time.Time) {
	printErrors(w, p, hosts)
	printLooks(w, p, hosts, now)
	if slices.ContainsFunc(hosts, isNotTriedAgain) {
		fmt.Fprintf(w, "\n%s\n", p.dim("What failed on a host is tried there again once it changes, or with: bellhop deploy --retry"))
	}
	if slices.ContainsFunc(hosts, isLeftOut) {
		fmt.Fprintf(w, "\n%s\n", p.dim("Hosts that a run stopped before wait for the next commit, or for: bellhop deploy --retry"))
	}
}

// reasonedState is the state of a host, with the reason that it has.
func reasonedState(h history.HostStatus) string {
	if h.Reason == nil {
		return string(h.State)
	}
	return fmt.Sprintf("%s (%s)", h.State, *h.Reason)
}

// isNotTriedAgain says that something failed on a host, and is left alone until it changes.
func isNotTriedAgain(h history.HostStatus) bool {
	return h.State == history.Failed || h.State == history.RolledBack || h.State == history.HeldBack
}

// isLeftOut says that a run stopped before it came to the host.
func isLeftOut(h history.HostStatus) bool {
	return h.State == history.Behind && h.Error != nil && h.CancelledBy == nil
}

func (p paint) hostHue(h history.HostStatus) func(int, string) string {
	return func(col int, c string) string {
		switch {
		case col == 1:
			return p.state(h.State, c)
		case col == 4 && h.Keys.Present < h.Keys.Expected, col == 5 && h.AwaySince != nil:
			return p.yellow(c)
		}
		return c
	}
}

// seenText says when a host was heard last, and whether it does not answer now.
func seenText(now time.Time, h history.HostStatus) string {
	if h.AwaySince != nil {
		return agoOr(now, h.SeenAt) + ", does not answer"
	}
	return agoOr(now, h.SeenAt)
}

func printErrors(w io.Writer, p paint, hosts []history.HostStatus) {
	var errs []causes.Error
	for _, h := range hosts {
		if h.Error != nil {
			errs = append(errs, causes.Error{Host: h.Name, Text: *h.Error})
		}
	}
	if len(errs) > 0 {
		fmt.Fprintln(w)
	}
	printCauses(w, p, "", causes.Fold(errs, ""))
}

func countStates(p paint, hosts []history.HostStatus) string {
	if len(hosts) == 0 {
		return "no host yet"
	}

	n := map[history.State]int{}
	for _, h := range hosts {
		n[h.State]++
	}

	away := countAway(hosts)
	if len(n) == 1 && n[history.Current] > 0 {
		all := p.green(fmt.Sprintf("all %d hosts are current", len(hosts)))
		if len(hosts) == 1 {
			all = p.green("the one host is current")
		}
		if away > 0 {
			all += ", " + p.yellow(fmt.Sprintf("%d of them did not answer when last asked", away))
		}
		return all
	}

	var parts []string
	for _, s := range stateOrder {
		if n[s] > 0 {
			parts = append(parts, p.state(s, fmt.Sprintf("%d %s", n[s], s)))
		}
		delete(n, s)
	}

	for _, s := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
	}

	return strings.Join(parts, ", ")
}

// countAway counts the hosts that do not answer now.
func countAway(hosts []history.HostStatus) (n int) {
	for _, h := range hosts {
		if h.AwaySince != nil {
			n++
		}
	}
	return n
}

func keysOf(k history.KeyCount) string {
	if k.Expected == 0 && k.Present == 0 {
		return "–"
	}
	return fmt.Sprintf("%d/%d", k.Present, k.Expected)
}

// printHistory shows runs, newest first: one line for the run, one for each host.
// evidence: with all that hosts saw of what failed.
func printHistory(w io.Writer, p paint, h history.History, evidence bool, now time.Time) {
	if len(h.Runs) == 0 {
		fmt.Fprintln(w, "no run yet")
	}
	for i, r := range h.Runs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printRun(w, p, r, now)
		if evidence {
			printEvidence(w, p, &r)
		} else {
			printFailingLines(w, p, "  ", &r)
		}
	}
}

func printRun(w io.Writer, p paint, r history.Run, now time.Time) {
	outcome := or(r.Outcome, running)
	fmt.Fprintf(w, "%s  %s  %s", p.bold(r.ID), p.outcome(outcome), r.Cause)
	if r.By != "" {
		fmt.Fprintf(w, " by %s", r.By)
	}

	fmt.Fprintf(w, ", %s", ago(now, r.StartedAt))
	if r.FinishedAt != nil {
		fmt.Fprintf(w, ", took %s", took(r.FinishedAt.Sub(r.StartedAt)))
	}

	fmt.Fprintln(w)
	if r.Commit != nil {
		fmt.Fprintf(w, "  %s %s %s\n", p.yellow(short(*r.Commit)), or(r.Subject, ""), p.dim("— "+or(r.Author, "unknown")))
	}
	if r.Error != "" {
		fmt.Fprintf(w, "  %s\n", p.red(indentRest(r.Error, "  ")))
	}

	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}

	var t table
	for _, res := range r.Hosts {
		t.painted(func(col int, c string) string {
			if col == 1 {
				return p.outcome(history.Outcome(c))
			}
			return c
		}, "  "+res.Name, string(or(res.Outcome, running)), tookOf(res), changedText(res))
	}

	t.write(w)
	printCauses(w, p, "  ", causes.Fold(errorsOf(&r), r.Error))
	for _, res := range r.Hosts {
		for _, n := range res.Notes {
			fmt.Fprintf(w, "  note: %s: %s\n", res.Name, n)
		}
	}
}

// tookOf is how long a run took on a host, nothing while that is not known.
func tookOf(r history.RunResult) string {
	if r.Outcome == nil {
		return "–"
	}
	return took(time.Duration(r.TookMs) * time.Millisecond)
}

// changedText says what changed on a host.
func changedText(r history.RunResult) string {
	const most = 3
	if n := len(r.Changed); n > most {
		return strings.Join(r.Changed[:most], " ") + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(r.Changed, " ")
}

func or[T ~string](s *T, other T) T {
	if s == nil {
		return other
	}
	return *s
}

func agoOr(now time.Time, t *time.Time) string {
	if t == nil {
		return "–"
	}
	return ago(now, *t)
}

// indentRest indents every line but the first.
func indentRest(s, by string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+by)
}
