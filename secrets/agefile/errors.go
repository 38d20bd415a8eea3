package agefile

import (
	"errors"
	"fmt"
	"strings"
)

// A Class says why a secret did not open. Each needs another remedy, so each has a name.
type Class string

// The classes of an OpenError.
const (
	NotAge        Class = "not-age"        // no age intro: plaintext, or something else altogether
	Empty         Class = "empty"          // the file has no bytes
	Mangled       Class = "mangled"        // an age file that CRLF or UTF-16 conversion damaged
	BadArmor      Class = "bad-armor"      // armored, and the armor is damaged
	BadHeader     Class = "bad-header"     // the header does not parse, or a stanza is malformed
	BadMAC        Class = "bad-mac"        // the header was changed after sealing
	NoMatch       Class = "no-match"       // none of the identities can open it
	Truncated     Class = "truncated"      // the payload ends early
	Corrupt       Class = "corrupt"        // a chunk of the payload fails authentication
	Trailing      Class = "trailing"       // something follows the payload
	Passphrase    Class = "passphrase"     // sealed with a passphrase, which no server can answer
	PluginMissing Class = "plugin-missing" // an identity needs a plugin that is absent or not allowed
	PluginFailed  Class = "plugin-failed"  // a plugin ran, and gave an error instead of a key
	Locked        Class = "locked"         // the identity itself could not be unlocked
	TooLarge      Class = "too-large"      // over MaxFile or MaxValue
	TimedOut      Class = "timed-out"      // opening took longer than the limit
)

// ErrNoIdentity is what opening without any identity wraps.
var ErrNoIdentity = errors.New("there is no identity to open it with")

// An OpenError says which secret did not open and why. Nothing in it comes from the file's
// content but the types of its stanzas.
type OpenError struct {
	Name    string   // the file, as the caller named it
	Class   Class    //
	Types   []string // NoMatch: the types of the stanzas found
	Readers []string // NoMatch: whom the file says it is sealed for, as fingerprints or names; nil if it does not say
	Tried   []string // NoMatch: the public half of the identities tried
	Rule    string   // the rule's pattern, once Rules.Explain filled it in
	Wanted  []string // who should read it by that rule, by name
	err     error
}

// Error names the file, the cause and, where another key is needed, the command that mends it.
func (e *OpenError) Error() string {
	s := "open " + e.Name + ": " + e.cause()
	if e.Class != NoMatch {
		return s
	}
	s += fmt.Sprintf("; it is sealed for %s", stanzaList(e.Types))
	if e.Readers != nil {
		s += " (" + strings.Join(e.Readers, ", ") + ")"
	}
	if e.Rule != "" {
		s += fmt.Sprintf("; rule %s wants %s", e.Rule, strings.Join(e.Wanted, ", "))
	}

	tried := "nothing"
	if len(e.Tried) > 0 {
		tried = strings.Join(e.Tried, ", ")
	}

	return s + "; tried " + tried + "; " + e.Hint()
}

// Unwrap gives ErrNoIdentity or a plugin's error, if that was the cause.
func (e *OpenError) Unwrap() error { return e.err }

// Hint is the next thing to do, for the one who reads the error.
func (e *OpenError) Hint() string {
	switch e.Class {
	case NotAge:
		return fmt.Sprintf("seal it with: bellhop secret set %s < VALUE; then rotate the value, since git remembers it", e.Name)
	case NoMatch:
		return "someone who can open it runs: bellhop secret rekey " + e.Name
	case Mangled, BadArmor:
		return "mark it in .gitattributes (*.age binary) and commit the original bytes again"
	case Passphrase:
		return "seal it for the readers instead: age -d " + e.Name + " | bellhop secret set NAME"
	case PluginMissing:
		return "install the plugin, or allow it by its absolute path"
	case PluginFailed:
		return "plug the token in, or try again with: age -d -i IDENTITY " + e.Name
	case Locked:
		return "check the identity's passphrase"
	case TooLarge:
		return "a secret this large belongs in a package, encrypted by its own key"
	}

	return "restore it from git, or set it again: bellhop secret set " + e.Name
}

func (e *OpenError) cause() string {
	switch {
	case errors.Is(e.err, ErrNoIdentity):
		return ErrNoIdentity.Error()
	case e.err != nil:
		return e.Class.Cause() + ": " + e.err.Error()
	}
	return e.Class.Cause()
}

// Cause says in words what is wrong with a file.
func (c Class) Cause() string {
	if c == TooLarge {
		return fmt.Sprintf("larger than bellhop opens (%d KiB of value)", MaxValue>>10)
	}
	if text := causes[c]; text != "" {
		return text
	}
	return string(c)
}

var causes = map[Class]string{
	NotAge:        "this is not an age file",
	Empty:         "the file is empty",
	Mangled:       "an age file that a text conversion (CRLF or UTF-16) has damaged",
	BadArmor:      "the armor is damaged",
	BadHeader:     "the age header is damaged",
	BadMAC:        "the age header was changed after the file was sealed",
	NoMatch:       "none of the identities can open it",
	Truncated:     "the file ends early",
	Corrupt:       "the content fails authentication: damaged, cut short or tampered with",
	Trailing:      "data follows the end of the sealed content",
	Passphrase:    "it is sealed with a passphrase; bellhop opens files sealed for keys",
	PluginMissing: "a plugin is needed",
	PluginFailed:  "a plugin failed",
	Locked:        "an identity could not be unlocked",
	TimedOut:      "opening took too long",
}

// ClassOf gives the class of an error that has an *OpenError in it; BadHeader of any other.
func ClassOf(err error) Class {
	var e *OpenError
	if errors.As(err, &e) {
		return e.Class
	}
	return BadHeader
}

// stanzaList counts equal types: "2 readers (X25519, X25519)" reads worse than "X25519 ×2".
func stanzaList(types []string) string {
	n := map[string]int{}
	var order []string
	for _, t := range types {
		if n[t] == 0 {
			order = append(order, t)
		}
		n[t]++
	}

	if len(order) > 8 {
		order = append(order[:8], "…")
	}

	for i, t := range order {
		if len(t) > 32 {
			t = t[:32] + "…"
		}
		if n[order[i]] > 1 {
			t += fmt.Sprintf(" ×%d", n[order[i]])
		}
		order[i] = t
	}

	if len(order) == 0 {
		return "nobody"
	}

	return strings.Join(order, ", ")
}
