package gitsync

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"bellhop/internal/plain"
)

// A Snapshot is one commit of the config repo.
type Snapshot struct {
	Commit    string
	Parent    string // first parent; "" for a root commit
	Author    string // as Email and Subject: 200 bytes at most, fit for a terminal
	Email     string
	Subject   string // first line of Message
	Message   string // 64 KiB at most, fit for a terminal
	Time      time.Time
	Tree      fs.FS  // a *Tree, rooted at Config.Path
	Rewritten bool   // the branch no longer holds the commit that was seen before
	Moved     string // where a redirect led to; "" when the repo is where it was asked for
}

// Trailers returns the values of a trailer of a commit message, in order: "Bellhop-Allow: prune
// web1" is the trailer Bellhop-Allow with the value "prune web1". It stands on a line of its own,
// anywhere in the message: what a forge makes of several commits has its own last paragraph.
func Trailers(message, key string) []string {
	var values []string
	for line := range strings.Lines(message) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && strings.EqualFold(k, key) {
			values = append(values, strings.TrimSpace(v))
		}
	}

	return values
}

// How many bytes are shown of what a commit says.
const (
	maxName    = 200 // of the author, the address, the subject
	maxMessage = 64 << 10
)

// snapshot makes a Snapshot of a commit of the clone.
func (r *Repo) snapshot(h plumbing.Hash) (Snapshot, error) {
	c, err := r.commit(h)
	if err != nil {
		return Snapshot{}, err
	}

	t, err := r.tree(c)
	if err != nil {
		return Snapshot{}, err
	}

	r.handedOut(h)
	s := Snapshot{
		Commit:  h.String(),
		Author:  plain.Line(strings.TrimSpace(c.Author.Name), maxName),
		Email:   plain.Line(strings.TrimSpace(c.Author.Email), maxName),
		Message: plain.Text(c.Message, maxMessage),
		Time:    c.Committer.When,
		Tree:    t,
	}

	subject, _, _ := strings.Cut(strings.TrimSpace(s.Message), "\n")
	s.Subject = plain.Line(subject, maxName)
	if len(c.ParentHashes) > 0 {
		s.Parent = c.ParentHashes[0].String()
	}

	return s, nil
}

// tree is the root of what a commit holds below Config.Path.
func (r *Repo) tree(c *object.Commit) (*Tree, error) {
	t := &Tree{repo: r, root: c.TreeHash, time: c.Committer.When, cache: newTreeCache()}
	if _, err := r.list(t.root); err != nil { // proves that it can be read
		return nil, fmt.Errorf("read the top folder: %w", err)
	}

	if r.cfg.Path == "." {
		return t, nil
	}

	sub, err := t.sub(r.cfg.Path, r.list)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("commit %s has no folder %s: push one, or set --path", c.Hash.String()[:10], r.cfg.Path)
	case err != nil:
		return nil, fmt.Errorf("read folder %s: %w", r.cfg.Path, err)
	}

	return sub, nil
}

// handedOut remembers the last few commits that someone may still read.
func (r *Repo) handedOut(h plumbing.Hash) {
	r.lately.Lock()
	defer r.lately.Unlock()

	for _, old := range r.recent {
		if old == h {
			return
		}
	}

	if r.recent = append(r.recent, h); len(r.recent) > 16 {
		r.recent = r.recent[1:]
	}
}

func (r *Repo) handedOutLately() []plumbing.Hash {
	r.lately.Lock()
	defer r.lately.Unlock()
	return slices.Clone(r.recent)
}
