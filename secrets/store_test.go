package secrets_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
	"golang.org/x/crypto/ssh"
)

// newStore is a config repo with the readers a and b; a is at the keyboard.
func newStore(t *testing.T) (s *secrets.Store, a, b agetest.Reader) {
	t.Helper()
	a, b = agetest.New(t), agetest.New(t)
	return &secrets.Store{
		Dir:        t.TempDir(),
		Rules:      secrets.Rules{Names: map[string][]string{"a": {a.Pub.String()}, "b": {b.Pub.String()}}},
		Identities: func() (*agefile.Identities, error) { return a.IDs, nil },
	}, a, b
}

// files reads all that stands below a folder, names of temporary files too.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[strings.TrimPrefix(p, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSetShow(t *testing.T) {
	s, _, b := newStore(t)
	for _, tt := range []struct {
		value string
		opt   secrets.SetOptions
		want  string
	}{
		{"hunter2", secrets.SetOptions{}, "hunter2"},
		{"hunter2\n", secrets.SetOptions{}, "hunter2\n"},
		{"hunter2\n\n", secrets.SetOptions{TrimNewline: true}, "hunter2\n"},
		{"\x00\r\n\xff", secrets.SetOptions{}, "\x00\r\n\xff"},
		{"", secrets.SetOptions{AllowEmpty: true}, ""},
	} {
		w, err := s.Set("bot.env", []byte(tt.value), tt.opt)
		if err != nil || w.File != "secrets/bot.env.age" || !slices.Equal(w.Readers, []string{"a", "b"}) {
			t.Fatalf("Set = %+v, %v", w, err)
		}
		if w.EndsInNewline != strings.HasSuffix(tt.want, "\n") || w.TrimmedNewline != tt.opt.TrimNewline {
			t.Errorf("Set(%q) says newline %t, trimmed %t", tt.want, w.EndsInNewline, w.TrimmedNewline)
		}
		got, err := s.Show("bot.env")
		if err != nil || string(got) != tt.want {
			t.Errorf("Show after Set = %d bytes, %v, want %d exact", len(got), err, len(tt.want))
		}
	}
	if _, err := s.Set("bot.env", nil, secrets.SetOptions{}); err == nil {
		t.Error("Set took an empty value")
	}
	data := files(t, s.Dir)["secrets/bot.env.age"]
	if _, err := b.IDs.Open("f", []byte(data)); err != nil {
		t.Errorf("b cannot open it: %v", err)
	}
	if n := len(files(t, s.Dir)); n != 1 {
		t.Errorf("%d files stand, want 1", n)
	}
}

func TestNamesStayInside(t *testing.T) {
	s, _, _ := newStore(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(s.Dir, "secrets")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "", ".", ".hidden", "a b", "x\n", "secrets/../../x.age", "ok"} {
		if _, err := s.Set(name, []byte("v"), secrets.SetOptions{}); err == nil {
			t.Errorf("Set(%q) succeeded", name)
		}
	}
	if n := len(files(t, outside)); n != 0 {
		t.Errorf("%d files were written outside", n)
	}
}

func TestRekey(t *testing.T) {
	s, a, b := newStore(t)
	gone := agetest.New(t)
	for name, data := range map[string][]byte{
		"current": agetest.Seal(t, "1", a.Pub, b.Pub), "missing": agetest.Seal(t, "2", a.Pub),
		"extra": agetest.Seal(t, "3", a.Pub, b.Pub, gone.Pub), "plain": plainAge(t, "4", a.Pub, b.Pub),
	} {
		writeFile(t, filepath.Join(s.Dir, "secrets", name+".age"), data, 0o640)
	}
	before := files(t, s.Dir)
	k, err := s.Stale()
	if err != nil || len(k.Files) != 3 || k.Current != 1 || k.Done || !slices.Equal(k.Rotate, []string{"secrets/extra.age"}) {
		t.Fatalf("Stale = %+v, %v, want 3 files, 1 to rotate", k, err)
	}
	for f, v := range files(t, s.Dir) {
		if before[f] != v {
			t.Fatalf("Stale wrote %s", f)
		}
	}
	if k, err = s.Rekey(); err != nil || !k.Done {
		t.Fatalf("Rekey = %+v, %v", k, err)
	}
	after := files(t, s.Dir)
	if after["secrets/current.age"] != before["secrets/current.age"] || len(after) != len(before) {
		t.Error("Rekey wrote a file that was current, or left something behind")
	}
	for i, name := range []string{"current", "missing", "extra", "plain"} {
		data := []byte(after["secrets/"+name+".age"])
		if v, err := b.IDs.Open(name, data); err != nil || string(v) != fmt.Sprint(i+1) {
			t.Errorf("%s: b opens it: %v", name, err)
		}
		if _, err := gone.IDs.Open(name, data); agetest.Class(err) != agefile.NoMatch {
			t.Errorf("%s: who is gone still opens it", name)
		}
	}
	if info, err := os.Stat(filepath.Join(s.Dir, "secrets/plain.age")); err != nil || info.Mode() != 0o640 {
		t.Errorf("the mode changed to %v", info.Mode())
	}
	if k, err = s.Stale(); err != nil || len(k.Files) != 0 {
		t.Errorf("after Rekey, Stale = %+v, %v, want nothing", k, err)
	}
}

func TestRekeyAllOrNothing(t *testing.T) {
	s, a, _ := newStore(t)
	gone := agetest.New(t)
	writeFile(t, filepath.Join(s.Dir, "secrets/1.age"), agetest.Seal(t, "1", a.Pub), 0o644)
	writeFile(t, filepath.Join(s.Dir, "secrets/2.age"), agetest.Seal(t, "2", gone.Pub), 0o644)
	before := files(t, s.Dir)
	_, err := s.Rekey()
	if err == nil || !strings.Contains(err.Error(), "secrets/2.age") || strings.Contains(err.Error(), "secrets/1.age:") {
		t.Errorf("Rekey = %v, want an error about secrets/2.age", err)
	}
	if after := files(t, s.Dir); len(after) != 2 || after["secrets/1.age"] != before["secrets/1.age"] {
		t.Error("Rekey changed a file though another failed")
	}
}

func TestRekeyTellsMixedFirst(t *testing.T) {
	s, a, _ := newStore(t)
	s.Rules.Names["q"] = []string{agetest.NewHybrid(t).Pub.String()}
	writeFile(t, filepath.Join(s.Dir, "secrets/1.age"), agetest.Seal(t, "1", a.Pub), 0o644)
	s.Identities = func() (*agefile.Identities, error) {
		t.Error("an identity was asked for")
		return nil, errors.New("no")
	}
	if _, err := s.Rekey(); err == nil || !strings.Contains(err.Error(), "age-keygen -pq") {
		t.Errorf("Rekey = %v, want the way out of mixed readers", err)
	}
}

func TestListWho(t *testing.T) {
	s, a, b := newStore(t)
	writeFile(t, filepath.Join(s.Dir, "secrets/both.age"), agetest.Seal(t, "v", a.Pub, b.Pub), 0o644)
	writeFile(t, filepath.Join(s.Dir, "secrets/only-a.age"), agetest.Seal(t, "v", a.Pub), 0o644)
	writeFile(t, filepath.Join(s.Dir, "secrets/open"), []byte("hunter2"), 0o644)
	s.Identities = nil // none of it needs a private key
	items, err := s.List()
	if err != nil || len(items) != 3 {
		t.Fatalf("List = %d, %v, want 3", len(items), err)
	}
	if items[0].State != secrets.StateCurrent || items[1].State != secrets.StateStale || items[2].State != secrets.StateBad {
		t.Errorf("List states: %v %v %v", items[0].State, items[1].State, items[2].State)
	}
	if got := secrets.ReadableBy(items, "b"); len(got) != 1 || got[0].File != "secrets/both.age" {
		t.Errorf("ReadableBy(b) = %v", got)
	}
	it, err := s.Who("only-a")
	if err != nil || !slices.Equal(it.Readers, []string{"a"}) || !slices.Equal(it.Missing, []string{"b"}) {
		t.Errorf("Who = %+v, %v", it, err)
	}
	if _, err := s.Show("both"); !errors.Is(err, agefile.ErrNoIdentity) {
		t.Errorf("Show without an identity = %v, want ErrNoIdentity", err)
	}
}

func TestGenerate(t *testing.T) {
	s, _, _ := newStore(t)
	for _, kind := range secrets.Kinds {
		w, err := s.Generate(kind, secrets.GenerateOptions{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.Show(kind)
		if err != nil {
			t.Fatal(err)
		}
		public := files(t, s.Dir)["secrets/"+kind+".pub"]
		switch kind {
		case "password":
			if len(v) != 32 {
				t.Errorf("a password of %d letters", len(v))
			}
		case "hex":
			if len(v) != 64 {
				t.Errorf("hex of %d letters", len(v))
			}
		case "ssh":
			k, err := ssh.ParsePrivateKey(v)
			if err != nil || !strings.HasPrefix(public, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey())))) {
				t.Errorf("the SSH key and its public half: %v", err)
			}
		case "wireguard":
			if wg, err := exec.LookPath("wg"); err == nil {
				cmd := exec.Command(wg, "pubkey")
				cmd.Stdin = bytes.NewReader(v)
				if out, err := cmd.Output(); err != nil || string(out) != public {
					t.Errorf("wg pubkey differs (%v)", err)
				}
			}
			if len(v) != 45 || len(public) != 45 {
				t.Errorf("a WireGuard pair of %d and %d letters, want 45", len(v), len(public))
			}
		}
		if (public != "") != (kind == "ssh" || kind == "wireguard") || (w.Public != "") != (public != "") {
			t.Errorf("%s: public half %q", kind, w.Public)
		}
		if _, err := s.Generate(kind, secrets.GenerateOptions{Kind: kind}); err == nil {
			t.Errorf("%s: a second Generate replaced the value", kind)
		}
		if _, err := s.Generate(kind, secrets.GenerateOptions{Kind: kind, Force: true}); err != nil {
			t.Errorf("%s: Generate with Force: %v", kind, err)
		}
		if again, err := s.Show(kind); err != nil || bytes.Equal(again, v) {
			t.Errorf("%s: Force did not make another value (%v)", kind, err)
		}
	}
	if got := secrets.CheckPush(t.Context(), nil, s.Tree(), s.Rules); len(got) != 0 {
		t.Errorf("what Generate wrote does not pass CheckPush: %v", got)
	}
}

func TestTextconv(t *testing.T) {
	s, a, b := newStore(t)
	data := agetest.Seal(t, "v\n", a.Pub)
	var out bytes.Buffer
	if err := secrets.Textconv(&out, "f", data, a.IDs, s.Rules); err != nil || out.String() != "v\n" {
		t.Errorf("Textconv = %q, %v", out.String(), err)
	}
	out.Reset()
	if err := secrets.Textconv(&out, "f", data, b.IDs, s.Rules); err != nil || !strings.Contains(out.String(), "sealed for X25519: a; not opened") {
		t.Errorf("Textconv by another = %q, %v", out.String(), err)
	}
}
