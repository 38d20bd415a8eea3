package secrets

import (
	"bytes"
	"context"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bellhop/internal/privatekey"
	"bellhop/secrets/agefile"
)

const (
	inHistory  = "its value is in git's history now, so rotate it"
	notYet     = "git does not have it yet: take it out of the commit"
	howToSeal  = "; then seal the new one: bellhop secret set "
	howToAllow = " (a key that is meant to be public, in a test for one: name the file under verify.allow)"
)

// CheckPush gives what refuses a push: plaintext below secrets/, a damaged age file, a private key
// in a blob that old does not have. Old is the last accepted commit, nil if there is none. What
// is in both is not read when the trees know object ids (Hash). A tree that cannot be looked
// through whole, for its size or since ctx ends, is refused.
func CheckPush(ctx context.Context, old, tree fs.FS, rules Rules) []Finding {
	return checkPush(ctx, old, tree, rules, inHistory)
}

func checkPush(ctx context.Context, old, tree fs.FS, rules Rules, then string) []Finding {
	p := &pushCheck{tree: tree, rules: rules, then: then, before: index{ctx: ctx, tree: old}}
	p.walk = &walk{ctx: ctx, old: old, tree: tree, visit: p.blob}
	p.walk.stop = func(name, why string) { p.add(Finding{File: name, Rule: Unreadable, Message: why, Refuses: true}) }
	p.walk.unread = func(name string) { p.add(unreadable(name)) }
	p.walk.all()
	return sortFindings(p.out)
}

// A pushCheck looks through what is new in a tree.
type pushCheck struct {
	walk   *walk
	tree   fs.FS
	rules  Rules
	then   string
	before index // of the last accepted commit
	out    []Finding
}

func (p *pushCheck) add(fs ...Finding) {
	p.out = append(p.out, fs...)
	p.walk.marks += len(fs)
	p.walk.full = len(p.out) >= maxFindings
}

// unreadable is the finding for what can't be read. It refuses a push only where bellhop reads:
// a disk image, or a name that is no UTF-8, elsewhere in the repo is nobody's business.
func unreadable(name string) Finding {
	f := Finding{File: name, Rule: Unreadable, Message: "cannot be read", Refuses: true}
	if !utf8.ValidString(name) {
		f.File, f.Message = strings.Trim(strconv.Quote(name), `"`), "a name that is not UTF-8: rename it"
	}
	switch top, _, _ := strings.Cut(name, "/"); top {
	case ".", "bellhop.yaml", "services", "hosts", "shared", Dir:
	default:
		f.Refuses = false
		f.Message += " (nobody looked for a private key in it)"
	}

	return f
}

func (p *pushCheck) blob(name string, d fs.DirEntry) {
	if !d.Type().IsRegular() {
		if isSecret(name) {
			p.add(Finding{File: name, Rule: NotRegular, Message: "a secret is a regular file, not a link or a device", Refuses: inSecrets(name)})
		}
		return
	}

	data, err := readFile(p.tree, name)
	if err != nil {
		p.add(unreadable(name))
		return
	}
	defer clear(data)
	p.walk.read += int64(len(data))

	if isSecret(name) {
		p.add(checkForm(name, data, p.then)...)
	}

	f, found := checkKey(name, data, p.then)
	if !found {
		return
	}
	p.walk.marks++ // at another path it may be refused, or meant
	if !p.rules.allows(name) && !p.before.holds(hashOf(p.tree, name), data) {
		p.add(f)
	}
}

func (r Rules) allows(name string) bool {
	return slices.ContainsFunc(r.Allow, func(p string) bool { return match(p, name) })
}

// checkForm says whether a secret is an age file at all.
func checkForm(name string, data []byte, then string) []Finding {
	class, armored := agefile.Sniff(data)
	switch {
	case class == agefile.Mangled, armored && bytes.Contains(data, []byte("\r")):
		return []Finding{{File: name, Rule: MangledFile, Refuses: true,
			Message: "an age file that a text conversion (CRLF or UTF-16) has damaged; mark it in .gitattributes (*.age binary) and commit the original bytes again"}}
	case class == "":
		return nil
	case !inSecrets(name):
		return []Finding{{File: name, Rule: Plaintext, Message: "its name ends in .age, and it is not an age file"}}
	case class == agefile.Empty:
		return []Finding{{File: name, Rule: Plaintext, Message: "is empty, and so not an age file; below secrets/ everything is sealed", Refuses: true}}
	}

	return []Finding{{File: name, Rule: Plaintext, Refuses: true, Message: "is not encrypted; " + then + howToSeal + name}}
}

func checkKey(name string, data []byte, then string) (Finding, bool) {
	kind, line := privatekey.Find(data)
	if kind == "" {
		return Finding{}, false
	}
	return Finding{File: name, Line: line, Rule: PrivateKey, Refuses: true,
		Message: "a private key (" + kind + "); " + then + howToAllow}, true
}

// checkHeader says what a header shows without a private key.
func checkHeader(name string, data []byte) (agefile.Audience, []Finding) {
	a, class := agefile.Inspect(data)
	finding := Finding{File: name, Rule: Damaged}

	switch class {
	case "":
		if !a.EmptyValue {
			return a, nil
		}
		finding.Rule, finding.Message = EmptyValue, "nothing is sealed in it: the value is empty"
	case agefile.TooLarge:
		finding.Message = "larger than bellhop opens"
	case agefile.BadHeader:
		finding.Message = "the age header is damaged"
	case agefile.Passphrase:
		finding.Rule, finding.Message = WithPassword, "sealed with a passphrase, which no server can answer"
	case agefile.Truncated:
		finding.Message = "the file ends early"
	default:
		finding.Message = "the armor is damaged"
	}

	return a, []Finding{finding}
}
