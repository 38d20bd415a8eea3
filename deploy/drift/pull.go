package drift

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"bellhop/deploy/contact"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
	"bellhop/internal/privatekey"
)

// A Pulled is an edit that somebody made to a file on a host, as a change of the repo.
type Pulled struct {
	Host string `json:"host"`
	Path string `json:"path"` // on the host
	// Source is the file of the repo that Path comes from, below the folder of the config.
	Source string `json:"source"`
	// Template says that Source is a template: which of its lines an edit belongs to nobody can say, so Diff
	// is one of the text that it made, and there is no Patch.
	Template bool   `json:"template"`
	Same     bool   `json:"same"`    // the host has the file as the repo wants it
	Diff     string `json:"diff"`    // for people; "" where the file is no text
	Patch    string `json:"patch"`   // for git apply, in the folder of the config; "" where there is none
	Was      string `json:"was"`     // SHA-256 of what bellhop put there
	Content  []byte `json:"content"` // what is there now; in JSON as base64
}

// Pull reads an owned file of a host, and says which change of the repo would make bellhop put there what
// is there now. A file with a key in it is refused.
func (l Looker) Pull(ctx context.Context, host, name string) (*Pulled, error) {
	p, err := l.pull(ctx, host, name)
	if err != nil {
		return nil, fmt.Errorf("pull %s of %s: %w", name, host, err)
	}
	return p, nil
}

func (l Looker) pull(ctx context.Context, host, name string) (*Pulled, error) {
	f, err := l.Load(ctx)
	if err != nil {
		return nil, err
	}
	h, ok := f.Host(host)
	if !ok {
		return nil, errors.New("no such host: bellhop status lists them, and a pull takes one by its name")
	}
	if !path.IsAbs(name) || path.Clean(name) != name {
		return nil, errors.New("want the whole path of a file, as in /etc/motd")
	}

	found, err := l.at(ctx, f, h, bundle.Look{Contents: []string{name}})
	switch {
	case err != nil:
		return nil, contact.AsText(err, l.why(ctx, err, f, h))
	case found.seen == nil:
		return nil, errors.New("the helper there is of a release that can't look")
	case found.seen.Working || len(found.seen.Contents) != 1:
		return nil, errWanted
	case found.bundle == nil:
		return nil, errors.New("which commit it came from is not known")
	}

	return l.pulled(ctx, f, found.bundle, name, found.seen.Contents[0])
}

// pulled makes a change of the repo of what is there now.
func (l Looker) pulled(ctx context.Context, f *fleet.Fleet, b *fleet.Bundle, name string, is bundle.Content) (*Pulled, error) {
	if err := pullable(b, name); err != nil {
		return nil, err
	}
	if is.Why != "" {
		return nil, errors.New(contentTrouble(is.Why))
	}
	if privatekey.Mask(string(is.Bytes)) != string(is.Bytes) {
		return nil, errors.New("a private key is in it: seal it as a secret (bellhop secret set), and name it under keys: of its service")
	}

	one, _ := b.Manifest.FileAt(name)
	was, err := b.File(one.Digest)
	if err != nil {
		return nil, fmt.Errorf("what bellhop put there can't be had: %w", err)
	}

	p := &Pulled{Host: b.Host, Path: name, Was: one.Digest, Content: is.Bytes, Same: bundle.DigestBytes(is.Bytes) == one.Digest}
	if p.Source, p.Template, err = l.sourceOf(ctx, b, one); err != nil {
		return nil, err
	}

	if p.Same {
		return p, nil
	}

	diff, _ := diffOf("a/"+p.Source, "b/"+p.Source, was, is)
	p.Diff = shownDiff(diff)
	if !p.Template && diff != "" {
		p.Patch = gitPatch(p.Source, diff)
	}

	return p, nil
}

// contentTrouble is why a host did not send a file, as people read it.
func contentTrouble(why string) string {
	if why == bundle.WhyKey {
		return "the value of a key is in it, or may be, so its bytes are not shown: change the secret (bellhop secret edit) or the template in the repo"
	}
	return "on the host it " + strings.TrimPrefix(shown(why), "it ")
}

// pullable says why a path of a bundle is no file whose edit can become a change.
func pullable(b *fleet.Bundle, name string) error {
	if _, ok := b.Manifest.FileAt(name); ok {
		return nil
	}

	isKey := path.Dir(name) == bundle.KeyDir || strings.HasPrefix(name, bundle.KeyFileDir+"/")
	i := slices.IndexFunc(b.Links, func(l bundle.Link) bool { return l.Path == name })
	switch {
	case isKey, i >= 0 && strings.HasPrefix(b.Links[i].Target, bundle.KeyDir+"/"):
		return errors.New("a key is in it, and keys are never brought from a host: bellhop secret edit changes one")
	case i >= 0:
		return fmt.Errorf("it is a link, to %s in the repo: change the link there", b.Links[i].Target)
	}

	return errors.New("bellhop put no such file there")
}

// sourceOf is the file of the repo that a file of a bundle comes from.
func (l Looker) sourceOf(ctx context.Context, b *fleet.Bundle, one bundle.File) (source string, isTemplate bool, err error) {
	tree, err := l.treeOf(ctx, b, one.Service)
	if err != nil {
		return "", false, err
	}

	for _, name := range sourceNames(one) {
		data, err := fs.ReadFile(tree, name)
		if err == nil && bundle.DigestBytes(data) == one.Digest {
			return name, false, nil
		}
		if info, err := fs.Stat(tree, name+".tmpl"); err == nil && info.Mode().IsRegular() {
			return name + ".tmpl", true, nil
		}
	}

	return "", false, errors.New("no file of the repo is it: bellhop makes it itself, from what service.yaml says of " + one.Service)
}

// sourceNames are where the file of a service may be in the repo.
func sourceNames(one bundle.File) []string {
	service := path.Join("services", one.Service)
	names := []string{path.Join(service, "files", one.Path)}
	for _, dir := range []string{bundle.UnitDir, bundle.QuadletDir} {
		if rest, ok := strings.CutPrefix(one.Path, dir+"/"); ok {
			names = append(names, path.Join(service, rest))
		}
	}

	return names
}

// treeOf is the tree that the files of a service of b came from.
func (l Looker) treeOf(ctx context.Context, b *fleet.Bundle, service string) (fs.FS, error) {
	a := l.Archive()
	if a.At == nil {
		return nil, errors.New("no older commit can be had")
	}

	last, _ := l.History.Host(b.Host)
	commit := a.CommitOf(last)
	if g, ok := a.Generation(b.Host, b.Digest); ok {
		commit = g.Commit
		for _, o := range g.Origins {
			if o.Service == service {
				commit = o.Commit
			}
		}
	}

	snap, err := a.At(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", plain.Short(commit), err)
	}

	return snap.Tree, nil
}

// gitPatch is a unified diff of one file as git apply takes it.
func gitPatch(name, diff string) string {
	a, b := gitName("a/"+name), gitName("b/"+name)
	_, hunks, _ := strings.Cut(diff, "\n") // the names as difflib has them, two lines
	_, hunks, _ = strings.Cut(hunks, "\n")
	return fmt.Sprintf("diff --git %s %s\n--- %s\n+++ %s\n%s", a, b, a, b, hunks)
}

// gitName is a name as git writes it in a patch: quoted where it holds more than plain characters.
func gitName(name string) string {
	isQuoted := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\`, r) }
	if !strings.ContainsFunc(name, isQuoted) {
		return name
	}

	var b strings.Builder
	b.WriteByte('"')

	for _, c := range []byte(name) {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ' || c > '~':
			b.WriteString(fmt.Sprintf(`\%03o`, c))
		default:
			b.WriteByte(c)
		}
	}

	b.WriteByte('"')
	return b.String()
}
