package plan

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"bellhop/deploy/commits"
	"bellhop/gitsync"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// A push that takes away most of what a host has needs consent: a flag, or a trailer in a commit.

// pruneGuard says why a change needs consent; "" when it does not.
func pruneGuard(old, new bundle.Manifest) string {
	loss := bundle.PruneGuard(old, new)
	if loss == nil {
		return ""
	}
	return fmt.Sprintf("%d of its %d things and %d services would leave (%s)",
		loss.Gone, loss.Of, len(loss.Services), strings.Join(loss.Services, ", "))
}

// AllowTrailer is the trailer of a commit that allows what is refused else. It can allow to prune hosts, and
// not that history was rewritten: whoever rewrites it would allow that himself.
const AllowTrailer = "Bellhop-Allow"

// What a trailer can allow.
const (
	AllowPrune   = "prune"
	AllowVolumes = "new-volumes"
)

// consents reads the trailers "Bellhop-Allow: WHAT HOST" of a commit message, of one WHAT: the hosts, or
// globs of them.
func consents(message, what string) []string {
	var hosts []string
	for _, value := range gitsync.Trailers(message, AllowTrailer) {
		if allowed, of := consentOf(value); allowed == what {
			hosts = append(hosts, of...)
		}
	}
	return hosts
}

// UnknownConsents lists the values of such trailers that allow nothing.
func UnknownConsents(message string) []string {
	return slices.DeleteFunc(gitsync.Trailers(message, AllowTrailer), func(value string) bool {
		what, _ := consentOf(value)
		return what != ""
	})
}

// consentOf reads "prune HOST, HOST"; what is "" when the value says nothing that can be allowed.
func consentOf(value string) (what string, hosts []string) {
	words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	if len(words) < 2 || words[0] != AllowPrune && words[0] != AllowVolumes {
		return "", nil
	}
	return words[0], words[1:]
}

func allows(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, host)
		return ok && err == nil
	})
}

// consented says whether a commit since the one that a host last satisfied allows what. Nobody has to
// repeat in the newest commit what an earlier one of the same push said.
func consented(ctx context.Context, a commits.Archive, snap commits.Snapshot, last history.Host, what string) bool {
	if allows(consents(snap.Message, what), last.Name) {
		return true
	}
	if a.Since == nil || last.Commit == "" || snap.Commit == "" {
		return false
	}
	messages, err := a.Since(ctx, last.Commit, snap.Commit)
	if err != nil { // a history that was rewritten, say: the newest commit alone speaks
		a.Log.Warn("commits since the last deploy can't be read", "host", last.Name, "err", err)
		return false
	}
	return slices.ContainsFunc(messages, func(m string) bool { return allows(consents(m, what), last.Name) })
}
