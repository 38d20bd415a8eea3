package preview_test

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/preview"
)

const pin = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJuQK7dKeV5mCF9Q8mFb1d3B3qSNIyZGbdHTwVRVK0dc"

// age is the beginning of an age file that nobody can open, with a text that tells versions apart.
func age(text string) string {
	return "age-encryption.org/v1\n-> X25519 " + strings.Repeat("A", 43) + "\n" + strings.Repeat("B", 43) + "\n--- " + strings.Repeat("C", 43) + "\n" + text
}

// config is a repo with two hosts, a file, a key, and a file that a key goes into.
func config(edit map[string]string) fstest.MapFS {
	files := map[string]string{
		"bellhop.yaml":                        "network: lab\nhosts:\n  a: { address: 10.0.0.1, host_key: " + pin + ", services: { web: true } }\n  b: { address: 10.0.0.2, host_key: " + pin + " }\n",
		"services/web/service.yaml":           "keys: { db: { source: secrets/db.age } }\n",
		"services/web/web.service":            "[Service]\nExecStart=/bin/web\n\n[Install]\nWantedBy=multi-user.target\n",
		"services/web/files/etc/web.conf":     "hello\n",
		"services/web/files/etc/web.env.tmpl": "PASSWORD={{key \"db\"}}\n",
		"secrets/db.age":                      age("one"),
	}
	maps.Copy(files, edit)
	tree := fstest.MapFS{}
	for name, text := range files {
		if text != "" {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return tree
}

func loader() *fleet.Loader { return &fleet.Loader{} }

func plan(t *testing.T, edit map[string]string) *preview.Plan {
	t.Helper()
	p, err := preview.Maker{Loader: loader}.Make(t.Context(), preview.Commit{Tree: config(nil)}, preview.Commit{Tree: config(edit)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func comment(p *preview.Plan) string {
	return p.Comment(preview.Caption{Network: "lab", Head: strings.Repeat("a", 40), Base: strings.Repeat("b", 40), IsFull: true})
}

func TestPlan(t *testing.T) {
	p := plan(t, map[string]string{"services/web/files/etc/web.conf": "world\n"})
	text := comment(p)
	for _, want := range []string{"<!-- bellhop plan lab -->\n**bellhop:** 1 of 2 hosts would change", "\na\n    ~ file /etc/web.conf\n", "Plan `" + p.Digest + "` of `aaaaaaaaaaaa`, against `bbbbbbbbbbbb`"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comment lacks %q:\n%s", want, text)
		}
	}
	if text := comment(plan(t, nil)); !strings.Contains(text, "0 of 2 hosts would change.") || strings.Contains(text, "```") {
		t.Errorf("nothing changes:\n%s", text)
	}

	summary := p.Comment(preview.Caption{Network: "lab"})
	if !strings.Contains(summary, "\na: 1 change\n") || strings.Contains(summary, "web.conf") {
		t.Errorf("the summary:\n%s", summary)
	}
}

// A new key is told by its file alone, and so is what it goes into.
func TestKeysAreComparedByTheirFiles(t *testing.T) {
	text := comment(plan(t, map[string]string{"secrets/db.age": age("two")}))
	if !strings.Contains(text, "~ key db (its files or its declaration)") {
		t.Errorf("another age file:\n%s", text)
	}
	if n := strings.Count(text, "(its files"); n != 2 {
		t.Errorf("%d keys change, want db and the file that it goes into:\n%s", n, text)
	}
}

// Whoever seals a guess to the deployer's key, and asks in a template whether it is the value, hears nothing: what a template
// makes of a key is never looked at, whatever the key is.
func TestAGuessIsNotAnswered(t *testing.T) {
	ask := "{{if eq (key \"db\") (key \"guess\")}}right{{else}}wrong{{end}}\n"
	guess := func(sealed string) *preview.Plan {
		return plan(t, map[string]string{
			"services/web/service.yaml":           "keys: { db: { source: secrets/db.age }, guess: { source: secrets/guess.age } }\n",
			"services/web/files/etc/web.env.tmpl": ask, "secrets/guess.age": age(sealed),
		})
	}
	one, other := guess("one"), guess("other")
	oneText := strings.ReplaceAll(comment(one), one.Digest, "")
	otherText := strings.ReplaceAll(comment(other), other.Digest, "")
	if oneText != otherText {
		t.Errorf("two guesses are told apart:\n%s\n%s", oneText, otherText)
	}
	if strings.Contains(oneText, "right") || strings.Contains(oneText, "wrong") || len(one.Problems) > 0 {
		t.Errorf("the answer is in the comment:\n%s", oneText)
	}
}

// A loader that could open a secret is not used.
func TestNoIdentityIsTaken(t *testing.T) {
	for what, l := range map[string]*fleet.Loader{
		"Open":      {Open: func(fs.FS, string) ([]byte, error) { return nil, nil }},
		"KeyDigest": {KeyDigest: func([]byte) string { return "" }},
	} {
		m := preview.Maker{Loader: func() *fleet.Loader { return l }}
		if _, err := m.Make(t.Context(), preview.Commit{Tree: config(nil)}, preview.Commit{Tree: config(nil)}); err == nil {
			t.Errorf("a loader with %s was taken", what)
		}
	}
}

func TestHostsThatComeAndGo(t *testing.T) {
	text := comment(plan(t, map[string]string{
		"bellhop.yaml": "network: lab\nhosts:\n  a: { address: 10.9.9.9, host_key: " + pin + ", services: { web: true } }\n  c: { address: 10.0.0.3, host_key: " + pin + ", services: { web: true } }\n",
	}))
	for _, want := range []string{"\na\n    is reached at another address", "\nb\n    leaves the repo", "\nc\n    is a new host\n", "    + file /etc/web.conf\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comment lacks %q:\n%s", want, text)
		}
	}
}

func TestRefusedHead(t *testing.T) {
	text := comment(plan(t, map[string]string{"services/web/service.yaml": "user: 5x\nnonsense: \"```\\n@everyone\"\n"}))
	if !strings.Contains(text, "this commit would be refused, with ") || !strings.Contains(text, "services/web/service.yaml:1") {
		t.Errorf("a head with problems:\n%s", text)
	}
	wantOneBlock(t, text)
}

// wantOneBlock wants all that somebody wrote in one block of code.
func wantOneBlock(t *testing.T, text string) {
	t.Helper()
	if n := strings.Count(text, "````"); n != 2 {
		t.Errorf("the block of code is not one (%d fences):\n%s", n, text)
	}
	before, rest, _ := strings.Cut(text, "\n````text\n")
	_, after, _ := strings.Cut(rest, "````\n")
	for _, bad := range []string{"@", "http", "<img", "](", "/merge"} {
		if strings.Contains(strings.TrimPrefix(before, "<!--"), bad) || strings.Contains(after, bad) {
			t.Errorf("%q stands outside of the block:\n%s", bad, text)
		}
	}
}

// No name is markup, a link, a mention, or a command of GitLab.
func TestNamesAreNoMarkup(t *testing.T) {
	bad := []string{"````\n@everyone", "<img src=http://x>", "[x](http://x)", "\n/merge\n", "\u202egnp.exe", "\x1b[2J", "~~~~\n# title", "-->", strings.Repeat("`", 1000)}
	p := &preview.Plan{Total: 1, Digest: "d"}
	for _, name := range bad {
		p.Hosts = append(p.Hosts, preview.Host{Name: name, Notes: []string{name}, Changes: []bundle.Change{{Action: bundle.Add, Kind: bundle.KindFile, Name: name}},
			Units: bundle.UnitPlan{Start: []string{name}}})
	}
	p.Hosts = append(p.Hosts, preview.Host{Name: "x", Notes: []string{"/close"}})
	text := p.Comment(preview.Caption{Network: "lab --> @everyone", Head: "`@x`", Base: "<img", IsFull: true})
	wantOneBlock(t, text)
	if strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("control characters:\n%q", text)
	}
	if first, _, _ := strings.Cut(text, "\n"); first != "<!-- bellhop plan lab_--___everyone -->" {
		t.Errorf("the marker is %q", first)
	}
}

func TestCommentIsBounded(t *testing.T) {
	p := &preview.Plan{Total: 5000}
	for range 5000 {
		p.Hosts = append(p.Hosts, preview.Host{Name: strings.Repeat("é", 1000), Changes: []bundle.Change{{Action: bundle.Add, Kind: bundle.KindFile, Name: strings.Repeat("x", 1000)}}})
	}
	text := p.Comment(preview.Caption{Network: "lab", IsFull: true})
	if len(text) > preview.MaxComment || !strings.Contains(text, " more lines\n````\n") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-200:])
	}
	wantOneBlock(t, text)
}
