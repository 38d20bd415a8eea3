package secrets

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/secrets/agefile"
)

// Dir is the folder of the config repo where secrets are.
const Dir = "secrets"

// Rules say who reads what, as the config repo has it.
//
// Among the rules that match a path the most specific decides, whatever their order: a path
// without wildcards first, then the pattern with the longer text before its first wildcard, then
// the one with more text in all, then the one that is written first. A tool that sorts the keys of a
// YAML file must not change who reads a secret. Without any rule, every name reads every secret.
type Rules struct {
	Names map[string][]string // who: a name to recipients, or to other names (a group)
	Rules []Rule
	Allow []string // patterns of files that may hold private keys (verify.allow)

	// Past gives the names of former rules, by recipient; nil knows none. It is asked once a file has
	// a reader whom the rules do not name, and may be slow.
	Past func() map[agefile.Fingerprint]string
}

// A Rule gives the paths that match Pattern their readers. In a pattern * and ? match
// anything but a slash, ** for anything; the ending .age may be left out.
type Rule struct {
	Pattern string
	Readers []string // names, groups, or recipients
	File    string   // where it was written, for messages
	Line    int
}

// ErrNoRule says that there are rules, and none for this path.
var ErrNoRule = errors.New("no rule says who reads it")

// Find gives the rule that decides for a file: nil without an error if there are no rules.
func (r Rules) Find(file string) (*Rule, error) {
	if len(r.Rules) == 0 {
		return nil, nil
	}

	var best *Rule
	for i := range r.Rules {
		rule := &r.Rules[i]
		if rule.matches(file) && (best == nil || moreSpecific(rule.Pattern, best.Pattern)) {
			best = rule
		}
	}

	if best == nil {
		return nil, fmt.Errorf("%s: %w", file, ErrNoRule)
	}

	return best, nil
}

// Readers gives who should read a file, by name, each recipient once. Post-quantum and classic
// readers in one file are a *MixedError.
func (r Rules) Readers(file string) ([]agefile.Reader, error) {
	rule, err := r.Find(file)
	if err != nil {
		return nil, err
	}

	names := slices.Sorted(maps.Keys(r.Names))
	if rule != nil {
		names = rule.Readers
	}

	readers, err := r.resolve(names)
	if err != nil {
		return nil, fmt.Errorf("readers of %s: %w", file, err)
	}
	if len(readers) == 0 {
		return nil, fmt.Errorf("readers of %s: nobody; name them under readers: in bellhop.yaml", file)
	}
	if err := agefile.Compatible(readers); err != nil {
		return nil, fmt.Errorf("readers of %s: %w", file, err)
	}

	return readers, nil
}

// resolve expands names and groups to recipients, keeping order and dropping doubles.
func (r Rules) resolve(entries []string) ([]agefile.Reader, error) {
	known := r.nameOf()
	var out []agefile.Reader
	add := func(rec agefile.Recipient) {
		if slices.ContainsFunc(out, func(o agefile.Reader) bool { return o.String() == rec.String() }) {
			return
		}
		name := known[rec.Fingerprint()]
		if name == "" {
			name = rec.Short()
		}
		out = append(out, agefile.Reader{Name: name, Recipient: rec})
	}

	var walk func(entries, above []string) error
	walk = func(entries, above []string) error {
		for _, e := range entries {
			if more, ok := r.Names[e]; ok {
				if slices.Contains(above, e) {
					return fmt.Errorf("group %q contains itself", e)
				}
				if err := walk(more, append(slices.Clip(above), e)); err != nil {
					return err
				}
				continue
			}

			rec, err := agefile.ParseRecipient(e)
			if err != nil {
				return badEntry(above, e, err)
			}
			add(rec)
		}
		return nil
	}

	err := walk(entries, nil)
	return out, err
}

// badEntry quotes an entry only if it looks like a name, never what could be a key.
func badEntry(above []string, entry string, err error) error {
	if isName(entry) {
		return fmt.Errorf("%q is not among the readers", entry)
	}
	if len(above) > 0 {
		return fmt.Errorf("reader %s: %w", above[len(above)-1], err)
	}
	return err
}

func isName(s string) bool {
	if s == "" || len(s) > 40 || strings.HasPrefix(strings.ToUpper(s), "AGE") {
		return false
	}
	for _, c := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", c) {
			return false
		}
	}

	return true
}

// nameOf maps recipients to the names they have in these rules. Who is in a group and has a name
// of their own is shown by that: the name with the fewest recipients wins.
func (r Rules) nameOf() map[agefile.Fingerprint]string {
	m := map[agefile.Fingerprint]string{}
	byCount := func(a, b string) int {
		return cmp.Or(cmp.Compare(len(r.Names[a]), len(r.Names[b])), cmp.Compare(a, b))
	}
	for _, name := range slices.SortedFunc(maps.Keys(r.Names), byCount) {
		for _, e := range r.Names[name] {
			if rec, err := agefile.ParseRecipient(e); err == nil && m[rec.Fingerprint()] == "" {
				m[rec.Fingerprint()] = name
			}
		}
	}

	return m
}

// NameOf maps the recipients of these rules to their names, for a later Past.
func (r Rules) NameOf() map[agefile.Fingerprint]string { return r.nameOf() }

// names puts names to fingerprints; a stranger keeps the fingerprint.
func (r Rules) names(fps []agefile.Fingerprint) []string {
	known := r.nameOf()
	var out []string
	for _, f := range fps {
		name := known[f]
		if name == "" && r.Past != nil {
			if name = r.Past()[f]; name != "" {
				name += " (formerly)"
			}
		}

		out = append(out, cmp.Or(name, f.String()))
	}

	slices.Sort(out)
	return out
}

// Explain adds what the rules know to an *OpenError: the rule, whom it wants, and names in place
// of fingerprints. Other errors pass through.
func (r Rules) Explain(err error) error {
	var e *agefile.OpenError
	if !errors.As(err, &e) || e.Class != agefile.NoMatch {
		return err
	}

	known := r.nameOf()
	c := *e
	c.Readers = slices.Clone(e.Readers)
	for f, name := range known {
		for i := range c.Readers {
			if c.Readers[i] == f.String() {
				c.Readers[i] = name
			}
		}
	}

	slices.Sort(c.Readers)
	if rule, err := r.Find(c.Name); err == nil && rule != nil {
		c.Rule = rule.Pattern
	}
	if readers, err := r.Readers(c.Name); err == nil {
		if c.Rule == "" {
			c.Rule = "(none: everybody)"
		}
		for _, rd := range readers {
			c.Wanted = append(c.Wanted, rd.Name)
		}
	}

	return &c
}

func (r *Rule) matches(file string) bool {
	return match(r.Pattern, file) || match(r.Pattern, strings.TrimSuffix(file, ".age"))
}

// match is path.Match with ** for any number of folders. A pattern that is a folder means all
// that is in it.
func match(pattern, name string) bool {
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	return matchParts(strings.Split(path.Clean(pattern), "/"), strings.Split(name, "/"))
}

// matchParts runs in the product of the two lengths: a pattern comes from the repo, and one made
// of many ** must not cost more than that.
func matchParts(pattern, name []string) bool {
	ok := make([]bool, len(name)+1) // ok[j]: the pattern so far matches name[:j]
	ok[0] = true
	for _, p := range pattern {
		next := make([]bool, len(name)+1)
		for j := range next {
			switch {
			case p == "**":
				next[j] = ok[j] || j > 0 && next[j-1]
			case j > 0 && ok[j-1]:
				m, err := path.Match(p, name[j-1])
				next[j] = err == nil && m
			}
		}

		ok = next
	}

	return ok[len(name)]
}

// badPattern says what is wrong with a pattern, if anything.
func badPattern(p string) error {
	if p == "" || path.IsAbs(p) || strings.Contains("/"+p+"/", "/../") {
		return errors.New("a pattern is a path inside the config repo")
	}
	for part := range strings.SplitSeq(p, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return errors.New("malformed pattern")
		}
		if part != "**" && strings.Contains(part, "**") {
			return errors.New("** stands for whole folders: write it between slashes")
		}
	}

	return nil
}

func moreSpecific(a, b string) bool {
	fa, ta := weight(a)
	fb, tb := weight(b)
	if fa != fb {
		return fa > fb
	}
	return ta > tb
}

// weight is the text before the first wildcard, and the text in all.
func weight(p string) (fixed, text int) {
	if strings.HasSuffix(p, "/") {
		p += "**"
	}
	fixed = strings.IndexAny(p, "*?[")
	if fixed < 0 {
		return 1 << 20, len(p)
	}
	return fixed, len(p) - strings.Count(p, "*") - strings.Count(p, "?")
}
