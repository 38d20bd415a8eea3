// Package plandigest names what a plan changes, so that two plans can be compared by one word.
//
// Its promise: a digest that is shown to strangers tells nothing of the value of a key. It is the same for the plan of a
// request and for the plan that is deployed, as long as both change the same.
package plandigest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// A Host is what a plan changes on one host.
type Host struct {
	Name    string
	Changes []bundle.Change
	Bundle  *fleet.Bundle // what the host is to hold; nil: nothing
}

// Of is the digest of a plan: two plans with one digest change the same things to the same contents. It is a SHA-256 over
// sorted lines
//
//	HOST ACTION KIND NAME WANTED
//
// WANTED is the SHA-256 of the bytes of a file or package, and of what is declared of anything
// else; for a key, and so for a file that a key goes into, it is the git blob ids of the files
// that it is made of, so that a digest that is shown to strangers tells nothing of a value. What
// leaves has none. tree is the commit that is planned.
func Of(tree fs.FS, hosts []Host) string {
	var lines []string
	for _, h := range hosts {
		wanted := contents(tree, h.Bundle)
		for _, c := range h.Changes {
			line := h.Name + " " + c.Action + " " + c.Kind + " " + c.Name
			if c.Action != bundle.Remove {
				line += " " + wanted[c.Resource()]
			}
			lines = append(lines, line+"\n")
		}
	}

	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

// contents names, by thing, what a host is wanted to hold.
func contents(tree fs.FS, b *fleet.Bundle) map[string]string {
	all := map[string]string{}
	if b == nil {
		return all
	}
	m := b.Manifest
	set := func(kind, name, content string) { all[bundle.Change{Kind: kind, Name: name}.Resource()] = content }

	for _, f := range m.Files {
		set(bundle.KindFile, f.Path, f.Digest)
	}

	for _, l := range m.Links {
		set(bundle.KindLink, l.Path, bundle.DigestBytes([]byte(l.Target)))
	}

	for _, k := range m.Keys {
		set(bundle.KindKey, k.Name, BlobIDs(tree, b.KeySources(k.Name)))
	}

	for _, u := range m.Units {
		u.Service = ""
		set(bundle.KindUnit, u.Name, declared(u))
	}

	for _, k := range m.Packages {
		set(bundle.KindPackage, k.Name, k.Digest)
	}

	for _, u := range m.Users {
		u.Service = ""
		set(bundle.KindAccount, u.Name, declared(u))
	}

	if m.System != nil {
		set(bundle.KindSystem, bundle.SystemService, declared(m.System))
	}

	for _, s := range m.Services {
		s.Digest = ""
		set(bundle.KindService, s.Name, declared(s))
	}

	return all
}

// declared is the digest of something that has no bytes of its own, such as a unit.
func declared(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}

	return bundle.DigestBytes(b)
}

// BlobIDs are the git object ids of files of a commit, in one text.
func BlobIDs(tree fs.FS, names []string) string {
	hashes, hashed := tree.(interface{ Hash(string) (string, bool) })
	var ids []string
	for _, name := range names {
		id := ""
		if hashed {
			id, _ = hashes.Hash(name)
		} else if b, err := fs.ReadFile(tree, name); err == nil {
			id = blobID(b)
		}
		ids = append(ids, id)
	}

	return strings.Join(ids, ",")
}

func blobID(b []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(b))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
