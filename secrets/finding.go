package secrets

import (
	"cmp"
	"fmt"
	"slices"

	"bellhop/internal/plain"
)

// A Finding is one thing that is not as it should be. Refusing ones stop a push; the others are
// warnings, since a file deploys if the deployer can open it, whoever else can.
type Finding struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Rule    Kind   `json:"rule"` // which check found it
	Message string `json:"message"`
	Refuses bool   `json:"refuses"`
}

// A Kind is the name of a check.
type Kind string

// The checks. Plaintext, PrivateKey and MangledFile refuse a push.
const (
	Plaintext    Kind = "plaintext"   // below secrets/, and not an age file
	PrivateKey   Kind = "private-key" // a blob that holds one
	MangledFile  Kind = "mangled"     // an age file that a text conversion damaged
	Damaged      Kind = "damaged"     // an age file whose header does not parse
	WithPassword Kind = "passphrase"  // sealed with a passphrase, which nobody can answer
	EmptyValue   Kind = "empty"       // sealed, and nothing in it
	Unruled      Kind = "no-rule"     // a secret that no rule names
	UnusedRule   Kind = "unused-rule" // a rule that no secret matches
	BadRule      Kind = "bad-rule"    // a rule or name that cannot be followed
	Mixed        Kind = "mixed"       // post-quantum and classic readers in one file
	Stale        Kind = "stale"       // a reader of the rule cannot open the file
	Extra        Kind = "extra"       // someone who is not a reader can open it
	Unknown      Kind = "unknown"     // sealed elsewhere: who can open it is not written down
	Unused       Kind = "unused"      // a secret that nothing uses
	Unopened     Kind = "unopened"    // none of the identities at hand opens it
	NotRegular   Kind = "not-regular" // a link or a device below secrets/
	Unreadable   Kind = "unreadable"  // the tree could not be read there
)

// String is file:line: message, as compilers print it.
func (f Finding) String() string {
	where := plain.Name(f.File)
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, f.Line)
	}
	if where == "" {
		return f.Message
	}
	return where + ": " + f.Message
}

// Refused says whether any finding refuses a push.
func Refused(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Refuses })
}

func sortFindings(fs []Finding) []Finding {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule))
	})
	return slices.Compact(fs)
}
