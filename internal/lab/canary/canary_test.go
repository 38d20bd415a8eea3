package canary_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/lab/canary"
)

// The sweep can fail: a canary is planted in each form and in each place, and caught.
func TestCanaryIsCaught(t *testing.T) {
	c, other := canary.New("planted"), canary.New("other")
	for name, form := range c.Forms() {
		s := canary.NewSweep(other, c)
		s.Look("a text", append([]byte(`{"before":"`), append(slices.Clip(form), " after"...)...))
		if !found(s, "planted as "+name+" in a text") {
			t.Errorf("as %s: not caught", name)
		}
		if found(s, "other") {
			t.Errorf("as %s: taken for another", name)
		}
	}
	text := []byte("a line before, " + c.Value + ", and one after")
	zip := func(p []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(p)
		z.Close()
		return b.Bytes()
	}
	deflate := func(p []byte) []byte {
		var b bytes.Buffer
		b.WriteString("a pack begins with something else")
		z := zlib.NewWriter(&b)
		z.Write(p)
		z.Close()
		return append(b.Bytes(), "and goes on"...)
	}
	for name, plant := range map[string]func(path string) error{
		"a file":               func(p string) error { return os.WriteFile(p, text, 0o600) },
		"a folder":             func(p string) error { return os.MkdirAll(p+"/x/y", 0o700) },
		"gzip":                 func(p string) error { return os.WriteFile(p, zip(text), 0o600) },
		"zlib within":          func(p string) error { return os.WriteFile(p, deflate(text), 0o600) },
		"gzip in zlib in gzip": func(p string) error { return os.WriteFile(p, zip(deflate(zip(text))), 0o600) },
		"a link":               func(p string) error { return os.Symlink(string(text[15:40]), p) },
		"a database":           func(p string) error { return database(p, c.Value) },
	} {
		dir := t.TempDir()
		if err := plant(filepath.Join(dir, "x")); err != nil {
			t.Fatal(err)
		}
		s := canary.NewSweep(c)
		s.Tree(dir, nil)
		want := name != "a folder"
		if len(s.Found()) > 0 != want {
			t.Errorf("in %s: found %v", name, s.Found())
		}
		if name == "a database" && !found(s, "planted as raw in "+filepath.Join(dir, "x")+", table x") {
			t.Errorf("in a row: not caught")
		}
	}
	s := canary.NewSweep(c)
	s.Tree(t.TempDir(), nil)
	if len(s.Found()) > 0 {
		t.Errorf("in nothing: found %v", s.Found())
	}
	name := filepath.Join(t.TempDir(), "a "+c.Value[7:23])
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Tree(filepath.Dir(name), nil)
	if !found(s, "the name") {
		t.Error("in the name of a file: not caught")
	}
}

// A row that is longer than a page is in no place of the file as a whole.
func database(path, value string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, q := range []string{"PRAGMA page_size = 512", "PRAGMA secure_delete = on", "CREATE TABLE x (y TEXT)"} {
		if _, err := db.Exec(q); err != nil {
			return err
		}
	}
	for pad := range 16 {
		if _, err := db.Exec("INSERT INTO x VALUES (?)", strings.Repeat("p", 460+4*pad)+value); err != nil {
			return err
		}
	}
	return nil
}

func TestCanaryInProcesses(t *testing.T) {
	c := canary.New("planted")
	for name, cmd := range map[string]*exec.Cmd{
		"cmdline": exec.CommandContext(t.Context(), "sh", "-c", "sleep 100; : "+c.Value[7:23]),
		"environ": {Path: "/bin/sleep", Args: []string{"sleep", "100"}, Env: []string{"X=" + c.Value}},
	} {
		s := canary.NewSweep(c)
		stop := s.Processes()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for ctx.Err() == nil && !found(s, name) {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
		cmd.Process.Kill()
		cmd.Wait()
		stop()
		if !found(s, name) {
			t.Errorf("in %s of a process: not caught", name)
		}
	}
}

func found(s *canary.Sweep, what string) bool {
	return strings.Contains(strings.Join(s.Found(), "\n"), what)
}
