package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/revlist"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// A Remote is a git repository that one can push to by calling Commit. It is a real bare
// repository on disk; no git program is needed. Its methods panic when the disk fails, since
// they only serve tests and the demo.
type Remote struct {
	Dir    string // of the bare repository
	Branch string // main

	// For the HTTP side (ServeHTTP).
	Token string // when set, asked for as the password of basic authentication

	mu      sync.Mutex
	store   *filesystem.Storage
	entries map[string]treeFile // the branch's files
	head    plumbing.Hash
	now     time.Time

	refsAsked, packsSent atomic.Int64
}

type treeFile struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

// Author is who commits when nobody is named.
const Author = "Twilight Sparkle <twilight@example.com>"

// NewRemote makes an empty repository below dir, with the branch main.
func NewRemote(dir string) *Remote {
	r := &Remote{Dir: dir, Branch: "main", entries: map[string]treeFile{}, now: time.Now().UTC().Truncate(time.Second)}
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(os.WriteFile(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "config"), []byte("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"), 0o644))
	r.store = filesystem.NewStorage(osfs.New(dir), cache.NewObjectLRU(32*cache.MiByte))
	return r
}

// URL is the repository's address: its path.
func (r *Remote) URL() string { return r.Dir }

// Head is the branch's newest commit, "" when there is none.
func (r *Remote) Head() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.head.IsZero() {
		return ""
	}
	return r.head.String()
}

// Commit writes files (name → content) on top of what is there, and moves the branch. What
// stands before a name chooses what it is: "-name" deletes a file or folder, "+name" is
// executable, "@name" is a link to its content. The author is "Name <mail>"; "" is Author.
func (r *Remote) Commit(files map[string]string, message, author string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, content := range files {
		r.put(name, content)
	}
	var parents []plumbing.Hash
	if !r.head.IsZero() {
		parents = []plumbing.Hash{r.head}
	}
	return r.commit(message, author, parents)
}

// Rewrite replaces the branch by one new commit without parents that holds files alone.
func (r *Remote) Rewrite(files map[string]string, message string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = map[string]treeFile{}
	for name, content := range files {
		r.put(name, content)
	}
	return r.commit(message, "", nil)
}

// Reset moves the branch to an older commit, as a forced push does.
func (r *Remote) Reset(commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := object.GetCommit(r.store, plumbing.NewHash(commit))
	must(err)
	t, err := c.Tree()
	must(err)
	r.entries = map[string]treeFile{}
	must(t.Files().ForEach(func(f *object.File) error {
		r.entries[f.Name] = treeFile{f.Mode, f.Hash}
		return nil
	}))
	r.move(c.Hash)
}

// Submodule puts a submodule's entry at name, without committing it.
func (r *Remote) Submodule(name, commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries[name] = treeFile{filemode.Submodule, plumbing.NewHash(commit)}
}

func (r *Remote) put(name, content string) {
	mode := filemode.Regular
	switch {
	case strings.HasPrefix(name, "-"):
		name = name[1:]
		delete(r.entries, name)
		for n := range r.entries {
			if strings.HasPrefix(n, name+"/") {
				delete(r.entries, n)
			}
		}
		return
	case strings.HasPrefix(name, "+"):
		name, mode = name[1:], filemode.Executable
	case strings.HasPrefix(name, "@"):
		name, mode = name[1:], filemode.Symlink
	}
	r.entries[name] = treeFile{mode, r.object(plumbing.BlobObject, []byte(content))}
}

func (r *Remote) commit(message, author string, parents []plumbing.Hash) string {
	r.now = r.now.Add(time.Second)
	if author == "" {
		author = Author
	}

	name, mail, _ := strings.Cut(strings.TrimSuffix(author, ">"), " <")
	who := object.Signature{Name: name, Email: mail, When: r.now}
	c := &object.Commit{Author: who, Committer: who, Message: message, TreeHash: r.tree("."), ParentHashes: parents}
	o := r.store.NewEncodedObject()
	must(c.Encode(o))
	h, err := r.store.SetEncodedObject(o)
	must(err)
	r.move(h)
	return h.String()
}

// move sets the branch, whole or not at all, as git does.
func (r *Remote) move(h plumbing.Hash) {
	file := filepath.Join(r.Dir, "refs", "heads", r.Branch)
	must(os.WriteFile(file+".lock", []byte(h.String()+"\n"), 0o644))
	must(os.Rename(file+".lock", file))
	r.head = h
}

// tree writes the folder dir and what lies below it.
func (r *Remote) tree(dir string) plumbing.Hash {
	entries := map[string]object.TreeEntry{}
	for name, f := range r.entries {
		rest := name
		if dir != "." {
			var ok bool
			if rest, ok = strings.CutPrefix(name, dir+"/"); !ok {
				continue
			}
		}

		first, _, deeper := strings.Cut(rest, "/")
		if _, have := entries[first]; have {
			continue
		}
		if deeper {
			entries[first] = object.TreeEntry{Name: first, Mode: filemode.Dir, Hash: r.tree(path.Join(dir, first))}
		} else {
			entries[first] = object.TreeEntry{Name: first, Mode: f.mode, Hash: f.hash}
		}
	}

	t := &object.Tree{}
	for _, e := range entries {
		t.Entries = append(t.Entries, e)
	}

	slices.SortFunc(t.Entries, func(a, b object.TreeEntry) int { return strings.Compare(gitName(a), gitName(b)) })
	o := r.store.NewEncodedObject()
	must(t.Encode(o))
	return r.save(o)
}

// gitName is what git sorts a folder's entries by.
func gitName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

func (r *Remote) object(t plumbing.ObjectType, content []byte) plumbing.Hash {
	o := &plumbing.MemoryObject{}
	o.SetType(t)
	_, err := o.Write(content)
	must(err)
	return r.save(o)
}

func (r *Remote) save(o plumbing.EncodedObject) plumbing.Hash {
	if r.store.HasEncodedObject(o.Hash()) == nil {
		return o.Hash()
	}
	h, err := r.store.SetEncodedObject(o)
	must(err)
	return h
}

// RefsAsked counts how often the branches were asked for over HTTP or SSH; PacksSent how
// often something was fetched.
func (r *Remote) RefsAsked() int64 { return r.refsAsked.Load() }

// PacksSent counts fetches; see RefsAsked.
func (r *Remote) PacksSent() int64 { return r.packsSent.Load() }

// ServeHTTP is git's smart HTTP protocol, for fetching.
func (r *Remote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.Token != "" {
		_, pass, _ := req.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(pass), []byte(r.Token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
	}
	switch {
	case strings.HasSuffix(req.URL.Path, "/info/refs") && req.FormValue("service") == "git-upload-pack":
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		e := pktline.NewEncoder(w)
		_ = e.EncodeString("# service=git-upload-pack\n")
		_ = e.Flush()
		_ = r.advertise(w)
	case strings.HasSuffix(req.URL.Path, "/git-upload-pack") && req.Method == http.MethodPost:
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_ = r.answer(req.Context(), req.Body, w)
	default:
		http.NotFound(w, req)
	}
}

// UploadPack is what `git-upload-pack` does at the far end of an SSH channel.
func (r *Remote) UploadPack(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := r.advertise(out); err != nil {
		return err
	}
	return r.answer(ctx, in, out)
}

func (r *Remote) advertise(w io.Writer) error {
	r.refsAsked.Add(1)
	refs := packp.NewAdvRefs()
	_ = refs.Capabilities.Set(capability.OFSDelta)
	r.mu.Lock()
	if !r.head.IsZero() {
		refs.References["refs/heads/"+r.Branch] = r.head
		refs.Head = &r.head
	}
	defer r.mu.Unlock()
	return refs.Encode(w)
}

// answer reads what is wanted and what is there, and sends what lies between.
func (r *Remote) answer(ctx context.Context, in io.Reader, out io.Writer) error {
	buf := bufio.NewReader(in)
	if b, err := buf.Peek(4); err != nil || string(b) == "0000" {
		return nil // they only wanted to see the branches
	}

	req := packp.NewUploadPackRequest()
	if err := req.UploadRequest.Decode(buf); err != nil {
		return fmt.Errorf("read request: %w", err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.packsSent.Add(1)
	var known []plumbing.Hash
	for lines := pktline.NewScanner(buf); lines.Scan(); {
		line := bytes.TrimSpace(lines.Bytes())
		if string(line) == "done" {
			break
		}
		if h, ok := bytes.CutPrefix(line, []byte("have ")); ok && r.store.HasEncodedObject(plumbing.NewHash(string(h))) == nil {
			known = append(known, plumbing.NewHash(string(h)))
		}
	}

	have, err := revlist.Objects(r.store, known, nil)
	if err != nil {
		return err
	}

	want, err := revlist.Objects(r.store, req.Wants, have)
	if err != nil {
		return err
	}
	if err := pktline.NewEncoder(out).EncodeString("NAK\n"); err != nil {
		return err
	}

	_, err = packfile.NewEncoder(out, r.store, false).Encode(want, 10)
	return err
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("lab: git remote: %v", err))
	}
}
