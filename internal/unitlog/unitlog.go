// Package unitlog says how the journal of units is asked for on a host.
package unitlog

import (
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// OfUsers says that one of units is of a user's own systemd: systemctl of the host knows nothing of it.
func OfUsers(units []string) bool {
	return slices.ContainsFunc(units, func(u string) bool { user, _ := bundle.SplitUnit(u); return user != "" })
}

// Line is the line of shell that shows what units said. journalctl is the program with its options, and quote
// makes one line of words. Where units are a user's, those of the host are left out: journalctl can't show
// both in one go.
func Line(journalctl, units []string, quote func(words []string) string) string {
	if !OfUsers(units) {
		for _, u := range units {
			journalctl = append(slices.Clone(journalctl), "-u", u)
		}
		return quote(journalctl)
	}

	whose := ""
	var said, told []string // by the programs, and by systemd
	for _, name := range units {
		user, unit := bundle.SplitUnit(name)
		isOfAnother := whose != "" && user != whose
		if user == "" || isOfAnother || !bundle.IsUnitName(name) {
			continue
		}

		whose = user
		said, told = append(said, "_SYSTEMD_USER_UNIT="+unit), append(told, "USER_UNIT="+unit)
	}
	if whose == "" {
		return quote(journalctl)
	}
	return strings.Join([]string{"uid=$(" + quote([]string{"id", "-u", "--", whose}) + ") &&", quote(journalctl), quote(said), "_UID=$uid +", quote(told), "_UID=$uid"}, " ")
}
