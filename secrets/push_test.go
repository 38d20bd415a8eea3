package secrets_test

import (
	"crypto/sha1"
	"encoding/hex"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
)

// hashed is a tree that knows object ids and counts what is opened.
type hashed struct {
	fstest.MapFS
	opened map[string]int
}

func newHashed(m fstest.MapFS) hashed { return hashed{m, map[string]int{}} }

func (h hashed) Open(name string) (fs.File, error) {
	if f, ok := h.MapFS[name]; ok && !f.Mode.IsDir() {
		h.opened[name]++
	}
	return h.MapFS.Open(name)
}

func (h hashed) Hash(name string) (string, bool) {
	if f, ok := h.MapFS[name]; ok {
		sum := sha1.Sum(f.Data)
		return hex.EncodeToString(sum[:]), true
	}
	all := sha1.New()
	found := name == "."
	for _, p := range sortedPaths(h.MapFS) {
		if name == "." || strings.HasPrefix(p, name+"/") {
			found = true
			all.Write([]byte(p))
			all.Write(h.MapFS[p].Data)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), found
}

func sortedPaths(m fstest.MapFS) []string {
	var out []string
	fs.WalkDir(m, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return nil
	})
	return out
}

func with(m fstest.MapFS, more map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for k, v := range m {
		out[k] = v
	}
	for k, v := range more {
		out[k] = &fstest.MapFile{Data: []byte(v)}
	}
	return out
}

func found(fs []secrets.Finding, file string, kind secrets.Kind) *secrets.Finding {
	for i := range fs {
		if fs[i].File == file && fs[i].Rule == kind {
			return &fs[i]
		}
	}
	return nil
}

const fakePEM = "-----BEGIN OPENSSH PRIVATE " + "KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n"

func TestCheckPush(t *testing.T) {
	a := agetest.New(t)
	good := string(agetest.Seal(t, "v", a.Pub))
	base := with(nil, map[string]string{
		"bellhop.yaml":           "network: x\n",
		"secrets/a.age":          good,
		"secrets/wg0.pub":        "public\n",
		"secrets/README.md":      "notes\n",
		"secrets/.gitignore":     "x\n",
		"docs/keys.md":           "keys begin with AGE-SECRET-KEY- or -----BEGIN OPENSSH PRIVATE " + "KEY-----, see\n",
		"services/old/files/key": fakePEM,
	})
	tree := with(base, map[string]string{
		"secrets/plain.env":        "TOKEN=hunter2\n",
		"secrets/deep/plain":       "hunter2",
		"secrets/zero.age":         "",
		"secrets/crlf.age":         strings.Replace(good, "v1\n", "v1\r\n", 1),
		"services/x/files/id":      "line one\nid = " + a.Priv + "\n",
		"services/x/files/sa.json": `{"private_key": "-----BEGIN PRIVATE ` + `KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n"}`,
		"services/x/files/pq":      "\xff\xfe" + strings.Join(strings.Split(agetest.NewHybrid(t).Priv, ""), "\x00") + "\x00", // UTF-16
		"services/x/files/ppk":     "PuTTY-User-Key-File-" + "3: ssh-ed25519\nEncryption: none\nPublic-Lines: 2\nAAAA\nAAAA\nPrivate-" + "Lines: 1\nAAAA\n",
		"testdata/public.pem":      fakePEM + "x",
		"moved/key":                fakePEM, // a blob that old has: not new
	})
	rules := secrets.Rules{Allow: []string{"testdata/**"}}
	for name, trees := range map[string][2]fs.FS{"ids": {newHashed(base), newHashed(tree)}, "plain": {base, tree}} {
		got := secrets.CheckPush(t.Context(), trees[0], trees[1], rules)
		want := map[string]secrets.Kind{
			"secrets/plain.env": secrets.Plaintext, "secrets/deep/plain": secrets.Plaintext, "secrets/zero.age": secrets.Plaintext,
			"secrets/crlf.age": secrets.MangledFile, "services/x/files/id": secrets.PrivateKey, "services/x/files/sa.json": secrets.PrivateKey,
			"services/x/files/pq": secrets.PrivateKey, "services/x/files/ppk": secrets.PrivateKey,
		}
		for file, kind := range want {
			f := found(got, file, kind)
			if f == nil || !f.Refuses {
				t.Errorf("%s: CheckPush did not refuse %s as %s", name, file, kind)
				continue
			}
			if strings.Contains(f.Message, "hunter2") || strings.Contains(f.Message, a.Priv) {
				t.Errorf("%s: the finding quotes the value", file)
			}
			if kind != secrets.MangledFile && file != "secrets/zero.age" && !(strings.Contains(f.Message, "history") && strings.Contains(f.Message, "rotate")) {
				t.Errorf("%s: %q does not say that the value must be rotated", file, f.Message)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: CheckPush gave %d findings, want %d", name, len(got), len(want))
		}
		if f := found(got, "services/x/files/id", secrets.PrivateKey); f != nil && f.Line != 2 {
			t.Errorf("the key is said to be at line %d, want 2", f.Line)
		}
	}
}

func TestCheckPushReadsOnlyWhatIsNew(t *testing.T) {
	m := map[string]string{}
	for _, d := range []string{"a", "b", "c"} {
		for i := range 100 {
			m[path.Join("services", d, "files", strings.Repeat("x", i+1))] = "same"
		}
	}
	base := with(nil, m)
	old, tree := newHashed(base), newHashed(with(base, map[string]string{"services/b/README.md": "new\n"}))
	if got := secrets.CheckPush(t.Context(), old, tree, secrets.Rules{}); len(got) != 0 {
		t.Errorf("CheckPush = %v, want nothing", got)
	}
	if len(tree.opened) != 1 || len(old.opened) != 0 {
		t.Errorf("read %d new and %d old blobs, want 1 and 0", len(tree.opened), len(old.opened))
	}
}

func TestVerify(t *testing.T) {
	a, b, gone := agetest.New(t), agetest.New(t), agetest.New(t)
	plain := string(plainAge(t, "v", a.Pub))
	rules := secrets.Rules{
		Names: map[string][]string{"a": {a.Pub.String()}, "b": {b.Pub.String()}},
		Rules: []secrets.Rule{
			{Pattern: "secrets/both*", Readers: []string{"a", "b"}, File: "bellhop.yaml", Line: 4},
			{Pattern: "secrets/web/*", Readers: []string{"a"}, File: "bellhop.yaml", Line: 5},
		},
	}
	good := string(agetest.Seal(t, "v", a.Pub, b.Pub))
	tree := with(nil, map[string]string{
		"secrets/both.age":       good,
		"secrets/both-stale.age": string(agetest.Seal(t, "v", a.Pub)),
		"secrets/both-extra.age": string(agetest.Seal(t, "v", a.Pub, b.Pub, gone.Pub)),
		"secrets/both-plain.age": plain,
		"secrets/both-empty.age": string(agetest.Seal(t, "", a.Pub, b.Pub)),
		"secrets/both-cut.age":   good[:60],
		"secrets/alone.age":      good,
		"secrets/open.txt":       "hunter2\n",
	})
	got := secrets.Verify(t.Context(), tree, secrets.Check{Rules: rules, Used: []string{"secrets/both.age"}})
	for _, w := range []struct {
		file    string
		kind    secrets.Kind
		refuses bool
		says    string
	}{
		{"secrets/both-stale.age", secrets.Stale, false, "b cannot open it"},
		{"secrets/both-extra.age", secrets.Extra, false, "rotate"},
		{"secrets/both-plain.age", secrets.Unknown, false, "wants 2 readers"},
		{"secrets/both-empty.age", secrets.EmptyValue, false, "empty"},
		{"secrets/both-cut.age", secrets.Damaged, false, "damaged"},
		{"secrets/alone.age", secrets.Unruled, false, "no rule"},
		{"secrets/alone.age", secrets.Unused, false, "no service"},
		{"secrets/open.txt", secrets.Plaintext, true, "history"},
		{"bellhop.yaml", secrets.UnusedRule, false, "secrets/web/*"},
	} {
		f := found(got, w.file, w.kind)
		if f == nil || f.Refuses != w.refuses || !strings.Contains(f.Message, w.says) {
			t.Errorf("Verify: %s %s = %v, want refuses %t, saying %q", w.file, w.kind, f, w.refuses, w.says)
		}
	}
	for _, f := range got {
		if f.File == "secrets/both.age" {
			t.Errorf("Verify found fault with a good file: %v", f)
		}
	}
	// Told once, also where two checks see it.
	n := 0
	for _, f := range got {
		if f.File == "secrets/open.txt" && f.Rule == secrets.Plaintext {
			n++
		}
	}
	if n != 1 {
		t.Errorf("plaintext was told %d times, want once", n)
	}
	got = secrets.Verify(t.Context(), tree, secrets.Check{Rules: rules, Staged: true, IDs: gone.IDs})
	if f := found(got, "secrets/both.age", secrets.Unopened); f == nil || !strings.Contains(f.Message, "(a, b)") {
		t.Errorf("Verify with a stranger's identity = %v, want both.age unopened, its readers by name", f)
	}
	if f := found(got, "secrets/open.txt", secrets.Plaintext); f == nil || strings.Contains(f.Message, "history now") {
		t.Errorf("a staged file is said to be in history: %v", f)
	}
}

func FuzzReaders(f *testing.F) {
	a := agetest.New(f)
	data := agetest.Seal(f, "hunter2-canary", a.Pub)
	f.Add(data)
	armored, err := agefile.Seal([]byte("v"), []agefile.Recipient{a.Pub}, agefile.SealOptions{Armor: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(armored)
	f.Add([]byte("age-encryption.org/v1\n-> bellhop.dev/readers 1\nAAAA\n--- AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		au, err := agefile.Readers(data)
		if err != nil && agetest.Class(err) == "" {
			t.Fatalf("Readers: untyped error %T", err)
		}
		if au.Known && len(au.Readers) != au.Stanzas {
			t.Fatalf("Readers: %d fingerprints for %d stanzas", len(au.Readers), au.Stanzas)
		}
		v, err := a.IDs.Open("f", data)
		if (err == nil) != (v != nil) || err != nil && agetest.Class(err) == "" {
			t.Fatalf("Open: %d bytes and %v", len(v), err)
		}
		secrets.CheckPush(t.Context(), nil, fstest.MapFS{"secrets/x.age": {Data: data}, "y": {Data: data}}, secrets.Rules{})
	})
}

// TestHintsCostNoMore: a file made of what looks like the start of a key is read once, not once
// for each.
func TestHintsCostNoMore(t *testing.T) {
	for _, hint := range []string{"AGE-PLUGIN-", "PuTTY-User-Key-File-2:", "-----BEGIN X PRIVATE " + "KEY-----"} {
		tree := fstest.MapFS{"x": {Data: []byte(strings.Repeat(hint, 4<<20/len(hint)))}}
		start := time.Now()
		if got := secrets.CheckPush(t.Context(), nil, tree, secrets.Rules{}); len(got) != 0 {
			t.Errorf("%s: CheckPush = %v, want nothing", hint, got)
		}
		took := time.Since(start)
		t.Log(hint, took)
		if took > 5*time.Minute {
			t.Errorf("%s: 4 MiB took %v", hint, took)
		}
	}
}
