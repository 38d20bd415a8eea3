package secrets

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/secrets/agefile"
)

// A Check is what Verify looks with. None of it needs a private key.
type Check struct {
	Rules  Rules
	Old    fs.FS               // the last accepted commit; nil: every blob counts as new
	Staged bool                // not yet committed: findings say so
	Used   []string            // the secrets that services use; nil: not looked at
	IDs    *agefile.Identities // nil: nothing is opened
}

// Verify gives everything that is not as it should be with the secrets of a tree.
func Verify(ctx context.Context, tree fs.FS, c Check) []Finding {
	then := inHistory
	if c.Staged {
		then = notYet
	}

	out := checkPush(ctx, c.Old, tree, c.Rules, then)
	out = append(out, c.Rules.Check()...)
	files, findings := secretFiles(ctx, tree)
	out = append(out, findings...)
	for _, name := range files {
		if ctx.Err() != nil {
			break // checkPush has reported it
		}
		out = append(out, c.file(tree, name, then)...)
	}

	out = append(out, c.Rules.unused(files)...)
	used := map[string]bool{}
	for _, name := range c.Used {
		used[name] = true
	}

	for _, name := range files {
		if c.Used != nil && !used[name] {
			out = append(out, Finding{File: name, Rule: Unused, Message: "no service uses it"})
		}
	}

	return sortFindings(out)
}

// secretFiles lists what should be age files, in order.
func secretFiles(ctx context.Context, tree fs.FS) (files []string, out []Finding) {
	w := &walk{ctx: ctx, tree: tree}
	w.visit = func(name string, d fs.DirEntry) {
		if d.Type().IsRegular() && isSecret(name) {
			files = append(files, name)
			w.marks++
		}
	}

	w.stop = func(name, why string) {
		if name != "." {
			out = append(out, Finding{File: name, Rule: Unreadable, Message: why})
		}
	}

	w.all()
	return files, out
}

// file checks one secret: its form, its rule, its readers.
func (c Check) file(tree fs.FS, name, then string) []Finding {
	data, err := readHead(tree, name, agefile.MaxFile+1)
	if err != nil {
		return []Finding{{File: name, Rule: Unreadable, Message: "cannot be read"}}
	}
	defer clear(data)
	if out := checkForm(name, data, then); out != nil {
		return out // the same finding as checkPush made, if the blob is new
	}

	a, out := checkHeader(name, data)
	if a.Stanzas > 0 {
		out = append(out, c.Rules.checkReaders(name, a)...)
	}
	if c.IDs != nil && a.Stanzas > 0 {
		if v, err := c.IDs.Open(name, data); err != nil {
			out = append(out, Finding{File: name, Rule: Unopened, Message: trimName(c.Rules.Explain(err).Error(), name)})
		} else {
			clear(v)
		}
	}

	return out
}

func trimName(msg, name string) string { return strings.TrimPrefix(msg, "open "+name+": ") }

// checkReaders compares who can open a file with who should.
func (r Rules) checkReaders(name string, a agefile.Audience) []Finding {
	rule, err := r.Find(name)
	if err != nil {
		return []Finding{{File: name, Rule: Unruled, Message: "no rule says who reads it; add one under readers: in bellhop.yaml"}}
	}

	want, err := r.Readers(name)
	if err != nil {
		if rule != nil {
			return nil // Check reports it, once, at the rule
		}
		return []Finding{{File: name, Rule: BadRule, Message: err.Error()}}
	}

	const fix = "; run: bellhop secret rekey "
	d := r.compare(want, a)
	var out []Finding
	if d.unknown {
		msg := fmt.Sprintf("who can open it is unknown: it was not sealed by bellhop (%s)", a.Kinds())
		if a.Stanzas != len(want) {
			msg = fmt.Sprintf("sealed for %d, and its rule wants %d readers; it was not sealed by bellhop", a.Stanzas, len(want))
		}
		out = append(out, Finding{File: name, Rule: Unknown, Message: msg + fix + name})
	}

	if len(d.missing) > 0 {
		out = append(out, Finding{File: name, Rule: Stale, Message: strings.Join(d.missing, ", ") + " cannot open it" + fix + name})
	}
	if len(d.extra) > 0 {
		out = append(out, Finding{File: name, Rule: Extra, Message: strings.Join(d.extra, ", ") + " can still open it, and is no reader" + fix + name + ", then rotate the value"})
	}

	return out
}

// A difference is between who should read a file and who can.
type difference struct {
	unknown bool
	missing []string // names
	extra   []string // names, or fingerprints of strangers
}

func (d difference) stale() bool { return d.unknown || len(d.missing) > 0 || len(d.extra) > 0 }

// compare knows everything of a file sealed here. Of another only what SSH stanzas give away.
func (r Rules) compare(want []agefile.Reader, a agefile.Audience) difference {
	if !a.Known {
		d := difference{unknown: true}
		for _, w := range want {
			if a.Lacks(w.Recipient) {
				d.missing = append(d.missing, w.Name)
			}
		}

		return d
	}

	var d difference
	var should []agefile.Fingerprint
	for _, w := range want {
		should = append(should, w.Fingerprint())
		if a.Lacks(w.Recipient) {
			d.missing = append(d.missing, w.Name)
		}
	}

	var extra []agefile.Fingerprint
	for _, f := range a.Readers {
		if !slices.Contains(should, f) {
			extra = append(extra, f)
		}
	}

	d.extra = r.names(extra)
	return d
}

// Check says what is wrong with the rules themselves, each at its own line.
func (r Rules) Check() []Finding {
	var out []Finding
	for _, rule := range r.Rules {
		at := Finding{File: rule.File, Line: rule.Line, Rule: BadRule}
		if err := badPattern(rule.Pattern); err != nil {
			at.Message = fmt.Sprintf("rule %q: %v", rule.Pattern, err)
			out = append(out, at)
			continue
		}

		readers, err := r.resolve(rule.Readers)
		if err == nil && len(readers) == 0 {
			err = fmt.Errorf("nobody")
		}
		if err == nil {
			if err = agefile.Compatible(readers); err != nil {
				at.Rule = Mixed
			}
		}

		if err != nil {
			at.Message = fmt.Sprintf("readers of %s: %v", rule.Pattern, err)
			out = append(out, at)
		}
	}

	return out
}

// unused are rules that decide for no file.
func (r Rules) unused(files []string) []Finding {
	used := map[*Rule]bool{}
	for _, name := range files {
		if rule, err := r.Find(name); err == nil && rule != nil {
			used[rule] = true
		}
	}

	var out []Finding
	for i := range r.Rules {
		if rule := &r.Rules[i]; !used[rule] {
			out = append(out, Finding{File: rule.File, Line: rule.Line, Rule: UnusedRule, Message: "no secret has the rule " + rule.Pattern})
		}
	}

	return out
}
