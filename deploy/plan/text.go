package plan

import (
	"fmt"
	"io"
	"strings"

	"github.com/pmezard/go-difflib/difflib"

	"bellhop/deploy/commits"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/textdiff"
)

// Write writes p for people: each host with its changes, files as a unified diff, keys
// as a word, the plan's digest, and one sentence at the end. Old texts come from the commit of
// the generation on the host; where they can't be had, sizes and digests are shown instead.
func (p *Plan) Write(w io.Writer, old func(history.Host) commits.Texts) error {
	for _, h := range p.Hosts {
		if h.Push && len(h.Changes) > 0 {
			if err := h.write(w, old(h.Last)); err != nil {
				return err
			}
			if h.Isolation != nil {
				fmt.Fprintf(w, "%s: held back: %s\n\n", h.Name, h.Isolation.Why())
			}
		} else if h.Error != "" {
			fmt.Fprintf(w, "%s: %s: %s\n\n", h.Name, h.State, strings.TrimSpace(h.Error))
		}
	}

	for _, h := range p.Hosts {
		switch {
		case h.IsHeld() && p.Chose(h.Name):
			fmt.Fprintf(w, "%s: %s\n\n", h.Name, h.HeldText())
		case h.WhyHoldEnds != "":
			fmt.Fprintf(w, "%s\n\n", h.EndedText())
		}
	}

	for _, name := range p.Gone {
		fmt.Fprintf(w, "%s: left the repo, and is left as it stands\n\n", name)
	}

	if waves := p.Waves(); len(waves) > 1 {
		for i, names := range waves {
			fmt.Fprintf(w, "wave %d: %s\n", i+1, plain.Few(names))
		}
		fmt.Fprintln(w)
	}

	_, err := fmt.Fprintf(w, "plan %s\n%s\n", p.Digest(), p.Sentence())
	return err
}

var signs = map[string]string{bundle.Add: "+", bundle.Modify: "~", bundle.Remove: "-"}

func (h *HostPlan) write(w io.Writer, old commits.Texts) error {
	fmt.Fprintf(w, "%s\n", h.Name)
	for _, c := range h.Changes {
		switch c.Kind {
		case bundle.KindFile:
			if err := h.writeFile(w, c, old); err != nil { // who takes no more has no more compared
				return err
			}
		case bundle.KindUnit:
			// What is asked of systemd is listed below, by its own verbs.
		case bundle.KindService:
			h.writeJudged(w, c)
		case bundle.KindKey:
			fmt.Fprintf(w, "  %s key %s: %s\n", signs[c.Action], c.Name, keyWord(c.Action))
		case bundle.KindSystem:
			h.writeSystem(w, c)
		default:
			fmt.Fprintf(w, "  %s %s %s%s\n", signs[c.Action], c.Kind, c.Name, h.about(c))
		}
	}

	for _, u := range []struct {
		verb  string
		names []string
	}{{"stop", h.Units.Stop}, {"start", h.Units.Start}, {"reload", h.Units.Reload}, {"restart", h.Units.Restart}} {
		for _, name := range u.names {
			fmt.Fprintf(w, "  %s %s\n", u.verb, name)
		}
	}
	for _, c := range h.Containers {
		fmt.Fprintf(w, "  %s container %s of %s: %s\n", c.Action, c.Container, c.Service, c.Why)
	}

	_, err := fmt.Fprintln(w)
	return err
}

// writeSystem writes how the NixOS system differs.
func (h *HostPlan) writeSystem(w io.Writer, c bundle.Change) {
	to := "none"
	if m := manifestOf(h.Bundle); m.System != nil {
		to = m.System.Path
	}
	fmt.Fprintf(w, "  %s system %s\n", signs[c.Action], to)
	if h.System != nil {
		h.System.write(w)
	}
}

func keyWord(action string) string {
	switch action {
	case bundle.Add:
		return "new"
	case bundle.Remove:
		return "leaves"
	}
	return "changed"
}

// about adds what a name alone does not tell.
func (h *HostPlan) about(c bundle.Change) string {
	if c.Action == bundle.Remove {
		if c.Kind == bundle.KindAccount {
			return " (the account and its home stay on the host)"
		}
		return ""
	}

	m := manifestOf(h.Bundle)
	switch c.Kind {
	case bundle.KindLink:
		for _, l := range m.Links {
			if l.Path == c.Name {
				return " -> " + plain.Name(l.Target)
			}
		}
	case bundle.KindPackage:
		for _, p := range m.Packages {
			if p.Name == c.Name {
				return " " + plain.Short(p.Digest)
			}
		}
	}
	return ""
}

// Of larger texts only the size is shown: a diff takes time by the square of their lines.
const (
	maxDiffed = 1 << 20 // bytes of both
)

func (h *HostPlan) writeFile(w io.Writer, c bundle.Change, old commits.Texts) error {
	was, had := h.Old.FileAt(c.Name)
	m := manifestOf(h.Bundle)
	is, has := m.FileAt(c.Name)
	_, err := fmt.Fprintf(w, "  %s file %s%s\n", signs[c.Action], c.Name, owner(was, had, is, has))
	if err != nil {
		return err
	}
	if had && has && was.Digest == is.Digest {
		return nil // mode or owner alone
	}

	a, okA := []byte(nil), !had
	if had {
		a, okA = old(was.Digest)
	}

	b, okB := []byte(nil), !has
	if has {
		p, err := h.Bundle.File(is.Digest)
		b, okB = p, err == nil
	}

	canRead := okA && okB && len(a)+len(b) <= maxDiffed
	if !canRead || !textdiff.IsText(a) || !textdiff.IsText(b) {
		_, err := fmt.Fprintf(w, "    was %s, now %s\n", sized(was, had), sized(is, has))
		return err
	}

	before, after := textdiff.Lines(a), textdiff.Lines(b)
	if len(before)+len(after) > textdiff.MaxLines {
		_, err := fmt.Fprintf(w, "    was %s, now %s\n", sized(was, had), sized(is, has))
		return err
	}

	from, to := c.Name, c.Name
	if !had {
		from = "/dev/null"
	}

	if !has {
		to = "/dev/null"
	}

	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: before, B: after, FromFile: from, ToFile: to, Context: 3,
	})
	if err != nil {
		return nil // the change is named; how it looks can't be told
	}

	for _, l := range strings.SplitAfter(diff, "\n") {
		if l != "" {
			if _, err := fmt.Fprintf(w, "    %s\n", plain.Text(strings.TrimSuffix(l, "\n"), 4096)); err != nil {
				return err
			}
		}
	}
	return nil
}

func owner(was bundle.File, had bool, is bundle.File, has bool) string {
	of := func(f bundle.File) string { return fmt.Sprintf("%04o %s:%s", f.Mode, f.User, f.Group) }
	switch {
	case had && has && of(was) != of(is):
		return fmt.Sprintf(" (%s, was %s)", of(is), of(was))
	case has && !had && of(is) != "0644 root:root":
		return " (" + of(is) + ")"
	}
	return ""
}

func sized(f bundle.File, ok bool) string {
	if !ok {
		return "nothing"
	}
	return fmt.Sprintf("%d bytes %s", f.Size, plain.Short(f.Digest))
}
