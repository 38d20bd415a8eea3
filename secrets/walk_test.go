package secrets_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/secrets"
)

// A bombTree has the same folder under many names, level by level, as git can spell it in a few
// hundred bytes. It counts what is listed and read.
type bombTree struct {
	levels, wide int
	leaf         map[string]string // what the lowest folder holds
	lists, reads int
}

func (b *bombTree) depth(name string) (level int, file string, ok bool) {
	if name == "." {
		return 0, "", true
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if i == b.levels {
			_, ok = b.leaf[p]
			return b.levels, p, ok && i == len(parts)-1
		}
		if !strings.HasPrefix(p, "d") {
			return 0, "", false
		}
	}
	return len(parts), "", true
}

// Hash names a folder by its level alone: all of one level are equal.
func (b *bombTree) Hash(name string) (string, bool) {
	level, file, ok := b.depth(name)
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%d %s %s", level, file, b.leaf[file]))), ok
}

func (b *bombTree) Open(name string) (fs.File, error) {
	level, file, ok := b.depth(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	m := fstest.MapFS{}
	if file != "" {
		b.reads++
		m[path.Base(name)] = &fstest.MapFile{Data: []byte(b.leaf[file])}
		return m.Open(path.Base(name))
	}
	b.lists++
	if level == b.levels {
		for f := range b.leaf {
			m[f] = &fstest.MapFile{}
		}
		return m.Open(".")
	}
	for i := range b.wide {
		m[fmt.Sprintf("d%d", i)] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	return m.Open(".")
}

// TestEqualFolders: a folder that stands a hundred million times is looked through once.
func TestEqualFolders(t *testing.T) {
	b := &bombTree{levels: 8, wide: 10, leaf: map[string]string{"a.txt": "a", "b.txt": "b"}}
	if got := secrets.CheckPush(t.Context(), nil, b, secrets.Rules{}); len(got) != 0 {
		t.Errorf("CheckPush = %v, want nothing", got)
	}
	if b.lists > 20 || b.reads > 10 {
		t.Errorf("%d folders listed and %d files read, want 9 and 2", b.lists, b.reads)
	}
}

const anAgeKey = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"

// TestEqualFoldersWithKeys: what is found in them is told at each path, up to what anybody reads.
func TestEqualFoldersWithKeys(t *testing.T) {
	b := &bombTree{levels: 8, wide: 10, leaf: map[string]string{"key": anAgeKey}}
	got := secrets.CheckPush(t.Context(), nil, b, secrets.Rules{})
	if len(got) == 0 || len(got) > 1100 || !secrets.Refused(got) {
		t.Fatalf("%d findings, want about a thousand that refuse", len(got))
	}
	if !slices.ContainsFunc(got, func(f secrets.Finding) bool { return strings.Contains(f.Message, "and more") }) {
		t.Errorf("no finding says that there are more: %v", got[len(got)-1])
	}
}

// TestEqualFoldersElsewhere: a key that one path allows is refused at another, and a folder that is
// harmless elsewhere is plaintext below secrets/.
func TestEqualFoldersElsewhere(t *testing.T) {
	tree := hashedMap{fstest.MapFS{
		"a/key": {Data: []byte(anAgeKey)}, "z/key": {Data: []byte(anAgeKey)},
		"notes/x/plain": {Data: []byte("hello")}, "secrets/x/plain": {Data: []byte("hello")},
	}}
	got := secrets.CheckPush(t.Context(), nil, tree, secrets.Rules{Allow: []string{"a/key"}})
	var files []string
	for _, f := range got {
		files = append(files, f.File)
	}
	if want := []string{"secrets/x/plain", "z/key"}; !slices.Equal(files, want) {
		t.Errorf("found in %v, want %v", files, want)
	}
}

// hashedMap names folders by what is below them.
type hashedMap struct{ fstest.MapFS }

func (m hashedMap) Hash(name string) (string, bool) {
	h := sha256.New()
	err := fs.WalkDir(m.MapFS, name, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			fmt.Fprintf(h, "%q %q\n", strings.TrimPrefix(p, name), m.MapFS[p].Data)
		}
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err == nil
}

// TestDeepFolders: nesting that no host takes is refused, and not followed.
func TestDeepFolders(t *testing.T) {
	tree := fstest.MapFS{strings.Repeat("d/", 2000) + "x": {Data: []byte("x")}}
	got := secrets.CheckPush(t.Context(), nil, tree, secrets.Rules{})
	if len(got) != 1 || !got[0].Refuses || !strings.Contains(got[0].Message, "folders in each other") {
		t.Errorf("CheckPush = %v, want one refusal", got)
	}
}

// TestCheckPushEnds: what could not be looked through in time is refused, not taken as good.
func TestCheckPushEnds(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	got := secrets.CheckPush(ctx, nil, fstest.MapFS{"a": {Data: []byte("x")}}, secrets.Rules{})
	if !secrets.Refused(got) || len(got) != 1 {
		t.Errorf("CheckPush = %v, want one refusal", got)
	}
}
