package nixtree_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/nixos/nixtree"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }

func TestSourceLeavesOutWhatBellhopAloneReads(t *testing.T) {
	tree := fstest.MapFS{
		"flake.nix":             file("{ outputs = { self }: { }; }"),
		"bellhop.yaml":          file("network: n\n"),
		"hosts/web.yaml":        file("address: x\n"),
		"hosts/web.nix":         file("{ }"),
		"services/plain/a.unit": file("[Service]\n"),
		"services/nix/web.nix":  file("{ }"),
		"services/nix/a.txt":    file("a"),
		"services/README.md":    file("all"),
		"secrets/db.age":        file("age-encryption.org/v1"),
		"secrets/who.pub":       file("ssh-ed25519 A"),
	}
	want := []string{"flake.nix", "hosts/web.nix", "secrets/who.pub", "services/README.md", "services/nix/a.txt", "services/nix/web.nix"}
	for _, c := range []struct {
		name, text string
		more       []string
	}{
		{"names nothing", "{ outputs = { self }: { }; }", nil},
		{"keyFile", "{ deployment.keys.db.keyFile = ./secrets/db.age; }", nil},
		{"agenix", "{ age.secrets.db.file = ./secrets/db.age; }", []string{"secrets/db.age"}},
		{"one service", "{ x = ./services/plain/a.unit; }", []string{"services/plain/a.unit"}},
		{"all services", "{ x = builtins.readDir ./services; }", []string{"services/plain/a.unit"}},
		{"all hosts", "{ x = builtins.readDir ./hosts; }", []string{"hosts/web.yaml"}},
		{"the fleet", "{ x = builtins.readFile ./bellhop.yaml; }", []string{"bellhop.yaml"}},
	} {
		tree["flake.nix"] = file(c.text)
		got := listWritten(t, tree)
		all := append(slices.Clone(want), c.more...)
		slices.Sort(all)
		if !slices.Equal(got, all) {
			t.Errorf("%s: Nix sees %v, want %v", c.name, got, all)
		}
	}
}

func listWritten(t *testing.T, tree fstest.MapFS) []string {
	t.Helper()
	s, err := nixtree.NewSource(tree, "")
	if err != nil {
		t.Fatal(err)
	}
	w, remove, err := s.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(w.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(w.Dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(w.Dir); info.Mode().Perm() != 0o700 {
		t.Errorf("the tree's mode is %v: others can read it", info.Mode())
	}
	remove()
	if _, err := os.Stat(w.Dir); !os.IsNotExist(err) {
		t.Errorf("the tree is there after it was removed: %v", err)
	}
	return files
}

func TestSourceKeyFollowsWhatNixSees(t *testing.T) {
	tree := func(change func(fstest.MapFS)) string {
		m := fstest.MapFS{"flake.nix": file("{ outputs = { self }: { }; }"), "a/run.sh": file("x"), "bellhop.yaml": file("network: n"), "secrets/a.age": file("x")}
		change(m)
		s, err := nixtree.NewSource(m, "")
		if err != nil {
			t.Fatal(err)
		}
		return s.Key
	}
	first := tree(func(fstest.MapFS) {})
	for name, change := range map[string]func(fstest.MapFS){
		"a secret": func(m fstest.MapFS) { m["secrets/a.age"] = file("other") },
		"fleet":    func(m fstest.MapFS) { m["bellhop.yaml"] = file("network: m") },
	} {
		if tree(change) != first {
			t.Errorf("%s changed the key, though Nix does not see it", name)
		}
	}
	for name, change := range map[string]func(fstest.MapFS){
		"bytes": func(m fstest.MapFS) { m["a/run.sh"] = file("y") },
		"name":  func(m fstest.MapFS) { m["a/go.sh"] = m["a/run.sh"]; delete(m, "a/run.sh") },
		"mode":  func(m fstest.MapFS) { m["a/run.sh"] = &fstest.MapFile{Data: []byte("x"), Mode: 0o755} },
		"more":  func(m fstest.MapFS) { m["a/b"] = file("") },
	} {
		if tree(change) == first {
			t.Errorf("%s did not change the key", name)
		}
	}
}

func TestSourceWantsALock(t *testing.T) {
	const inputs = "{\n  inputs.nixpkgs.url = \"github:NixOS/nixpkgs\";\n  outputs = { self, nixpkgs }: { };\n}\n"
	_, err := nixtree.NewSource(fstest.MapFS{"flake.nix": file(inputs)}, "")
	if err == nil || !strings.Contains(err.Error(), "flake.lock") || !strings.Contains(err.Error(), "nix flake lock") {
		t.Errorf("a flake with inputs and no lock: %v", err)
	}
	for _, none := range []string{"{ outputs = { self }: { }; }", "{ inputs = { }; outputs = { self }: { }; }", "{ outputs = inputs: { }; }", "{ # inputs.a.url\n outputs = _: { }; }"} {
		if _, err := nixtree.NewSource(fstest.MapFS{"flake.nix": file(none)}, ""); err != nil {
			t.Errorf("NewSource(%q): %v", none, err)
		}
	}
}

func TestCheckLock(t *testing.T) {
	holds := func(rel string) bool { return rel == "sub" }
	for locked, refused := range map[string]bool{
		`{"type":"github","owner":"NixOS","repo":"nixpkgs","rev":"1","narHash":"sha256-x"}`: false,
		`{"type":"git","url":"https://example.com/r"}`:                                      false,
		`{"type":"git","url":"ssh://git@example.com/r"}`:                                    false,
		`{"type":"tarball","url":"https://example.com/a.tar.gz"}`:                           false,
		`{"type":"path","path":"./sub"}`:                                                    false,
		`{"type":"path","path":"sub"}`:                                                      false,
		`{"type":"path","path":"/var/lib/bellhop","narHash":"sha256-x"}`:                    true,
		`{"type":"path","path":"../x"}`:                                                     true,
		`{"type":"path","path":"./sub/../../x"}`:                                            true,
		`{"type":"path","path":"elsewhere"}`:                                                true,
		`{"type":"path"}`:                                                                   true,
		`{"type":"git","url":"file:///var/lib/bellhop"}`:                                    true,
		`{"type":"git","url":"git+file:///srv/r"}`:                                          true,
		`{"type":"git","url":"/srv/r"}`:                                                     true,
		`{"type":"tarball","url":"file:///etc/a.tar"}`:                                      true,
		`{"type":"file","url":"file:///etc/shadow"}`:                                        true,
		`{"type":"hg","url":"file:///srv"}`:                                                 true,
	} {
		err := nixtree.CheckLock([]byte(`{"nodes":{"in":{"locked":`+locked+`},"root":{"inputs":{"in":"in"}}},"root":"root","version":7}`), holds)
		if (err != nil) != refused {
			t.Errorf("CheckLock(%s) = %v, want refused: %v", locked, err, refused)
		}
		if err != nil && (!strings.Contains(err.Error(), "flake.lock: input in") || !strings.Contains(err.Error(), "store")) {
			t.Errorf("CheckLock(%s) does not tell what and why: %v", locked, err)
		}
	}
	if err := nixtree.CheckLock([]byte("{"), holds); err == nil {
		t.Error("CheckLock took half a file")
	}
}

func FuzzCheckLock(f *testing.F) {
	f.Add([]byte(`{"nodes":{"in":{"locked":{"type":"path","path":"/x"}}}}`))
	f.Fuzz(func(t *testing.T, lock []byte) {
		_ = nixtree.CheckLock(lock, func(string) bool { return true })
	})
}

// narHash is of the folder that TestNARHash makes, as nix-hash has it.
const narHash = "uLFxJGgxiN43cOymz4lM+g2eb7FyNgOkxtJggKvPbUA="

func TestNARHash(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{"a": 0o644, "sub/run": 0o755, "sub/empty": 0o600} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		text := path
		if strings.HasSuffix(path, "empty") {
			text = ""
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../a", filepath.Join(dir, "sub/link")); err != nil {
		t.Fatal(err)
	}

	sum := sha256.New()
	if err := nixtree.WriteNAR(sum, dir); err != nil {
		t.Fatal(err)
	}
	got := base64.StdEncoding.EncodeToString(sum.Sum(nil))
	if got != narHash {
		t.Errorf("the hash is %s, want %s", got, narHash)
	}
	if program, err := exec.LookPath("nix-hash"); err == nil {
		out, err := exec.Command(program, "--type", "sha256", dir).Output()
		if err != nil || strings.TrimSpace(string(out)) != hex.EncodeToString(sum.Sum(nil)) {
			t.Errorf("nix-hash says %s, %v; want %s", out, err, got)
		}
	}
}
