package secrets_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bellhop/secrets"
	"bellhop/secrets/agefile/agetest"
	"bellhop/secrets/edit"
)

// ram gives the test a RAM-backed folder of its own to look through, or skips.
func ram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bellhop-test-")
	if err != nil {
		t.Skip("no /dev/shm here")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

func script(t *testing.T, body string) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "my editor"), []byte("#!/bin/sh\n"+body), 0o755)
}

func TestEdit(t *testing.T) {
	dir := ram(t)
	s, _, b := newStore(t)
	edit := func(body string) (*secrets.Written, error) {
		t.Helper()
		w, err := s.Edit("x.env", edit.Editor{Command: "'" + script(t, body) + "' --wait"})
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("%d files are left in RAM", len(left))
		}
		return w, err
	}
	log := filepath.Join(t.TempDir(), "log")
	w, err := edit(fmt.Sprintf(`[ "$1" = --wait ] || exit 9; echo A=1 > "$2"; stat -c '%%a %%n' "$2" "$(dirname "$2")" > %s; echo left > "$2~"; echo "$TMPDIR" >> %s`, log, log))
	if err != nil || !w.Created || !w.Changed {
		t.Fatalf("Edit of a new secret = %+v, %v", w, err)
	}
	said, _ := os.ReadFile(log)
	if lines := strings.Split(string(said), "\n"); !strings.HasPrefix(lines[0], "600 "+dir) || !strings.HasSuffix(lines[0], "/x.env") || !strings.HasPrefix(lines[1], "700 ") || !strings.HasPrefix(lines[2], dir) {
		t.Errorf("the editor saw %q, want 0600 in a folder of 0700 in RAM", said)
	}
	before := files(t, s.Dir)
	if w, err = edit(`grep -q A=1 "$2"`); err != nil || w.Changed || files(t, s.Dir)["secrets/x.env.age"] != before["secrets/x.env.age"] {
		t.Errorf("Edit without a change = %+v, %v, or the file was written", w, err)
	}
	for name, body := range map[string]string{"failing": `echo B=2 > "$2"; exit 1`, "emptied": `: > "$2"`, "removed": `rm "$2"`} {
		if _, err := edit(body); err == nil || files(t, s.Dir)["secrets/x.env.age"] != before["secrets/x.env.age"] {
			t.Errorf("Edit with a %s editor: %v, or the file was written", name, err)
		}
	}
	if w, err = edit(`printf 'A=2' > "$2"`); err != nil || !w.Changed || w.Created || w.EndsInNewline {
		t.Errorf("Edit = %+v, %v", w, err)
	}
	if v, err := b.IDs.Open("f", []byte(files(t, s.Dir)["secrets/x.env.age"])); err != nil || string(v) != "A=2" {
		t.Errorf("b opens it: %d bytes, %v", len(v), err)
	}
	s.Rules.Rules = []secrets.Rule{{Pattern: "secrets/other", Readers: []string{"a"}}}
	if _, err := edit(`touch ` + log + `.ran`); err == nil {
		t.Error("Edit of a file without a rule succeeded")
	}
	if _, err := os.Stat(log + ".ran"); err == nil {
		t.Error("the editor was started for a file that could not be sealed")
	}
}

// TestEditSignals: whatever ends the editing, nothing is left and nothing was written.
func TestEditSignals(t *testing.T) {
	dir := ram(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		repo, ready := t.TempDir(), filepath.Join(t.TempDir(), "ready")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BELLHOP_TEST_ROLE=edit", "BELLHOP_TEST_DIR="+repo, "BELLHOP_TEST_READER="+agetest.New(t).Pub.String(),
			"BELLHOP_TEST_EDITOR="+"'"+script(t, `echo hunter2 > "$1"; touch `+ready+`; exec sleep 600`)+"'")
		var out strings.Builder
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 6000 {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(files(t, dir)) != 1 {
			t.Fatalf("the editor did not start: %s", out.String())
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if err == nil || !strings.Contains(out.String(), "interrupted") {
			t.Errorf("%v: the edit ended with %v: %s", sig, err, out.String())
		}
		if len(files(t, dir)) != 0 || len(files(t, repo)) != 0 {
			t.Errorf("%v: something was left", sig)
		}
	}
}

// TestEditKilled kills a bellhop that edits, as nothing can be caught, while its editor saves on
// being told to end and makes the folder anew. Neither the value nor the editor stays.
func TestEditKilled(t *testing.T) {
	dir := ram(t)
	place := t.TempDir()
	ready, pid := filepath.Join(place, "ready"), filepath.Join(place, "pid")
	editor := script(t, fmt.Sprintf(`save() { mkdir -p "$(dirname "$1")"; echo hunter2 >"$1.save"; }
trap 'save "$1"' HUP
echo hunter2 >"$1"; echo $$ >%s; : >%s
while :; do sleep 0.05; done`, pid, ready))

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BELLHOP_TEST_ROLE=edit", "BELLHOP_TEST_DIR="+t.TempDir(), "BELLHOP_TEST_EDITOR="+"'"+editor+"'", "BELLHOP_TEST_READER="+agetest.New(t).Pub.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the editor starts", func() bool { _, err := os.Stat(ready); return err == nil && len(files(t, dir)) == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()

	number, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	editorPID, err := strconv.Atoi(strings.TrimSpace(string(number)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the editor ends", func() bool { return ended(editorPID) })
	eventually(t, "the plaintext goes", func() bool { return len(files(t, dir)) == 0 })
	eventually(t, "the folder goes", func() bool { left, _ := os.ReadDir(dir); return len(left) == 0 })
}

// ended says whether a process ended; its parent may not have asked yet how.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// eventually waits for what other processes do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("in vain: %s", what)
}

// TestEditSweeps: a folder of an editing that was killed outright goes at the next.
func TestEditSweeps(t *testing.T) {
	dir := ram(t)
	old := filepath.Join(dir, "bellhop-edit-4194305-1") // above the largest pid
	writeFile(t, filepath.Join(old, "x"), []byte("hunter2"), 0o600)
	other := writeFile(t, filepath.Join(dir, "other", "x"), []byte("mine"), 0o600)
	s, _, _ := newStore(t)
	if _, err := s.Edit("x", edit.Editor{Command: "'" + script(t, `echo v > "$1"`) + "'"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Error("the old folder still stands")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a folder that is not ours is gone")
	}
}

// TestEditLeftovers runs the real editors that are installed, told by their own settings to keep
// copies, and looks for the value in their home.
func TestEditLeftovers(t *testing.T) {
	for name, setup := range map[string]struct{ rc, text, args string }{
		"vim":  {".vimrc", "set undofile backup writebackup swapfile\nset undodir=~/u backupdir=~/u directory=~/u viminfo='100,n~/u/viminfo\n", `-u ~/.vimrc -s ~/keys`},
		"nvim": {".config/nvim/init.vim", "set undofile backup writebackup swapfile\nset undodir=~/u backupdir=~/u directory=~/u\n", `-s ~/keys`},
	} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := ram(t)
			home := t.TempDir()
			t.Setenv("HOME", home)
			writeFile(t, filepath.Join(home, setup.rc), []byte(setup.text), 0o600)
			if err := os.MkdirAll(filepath.Join(home, "u"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(home, "keys"), []byte("iTOKEN=hunter2-canary\x1byy:w\rp:wq\r"), 0o600)
			s, _, _ := newStore(t)
			if _, err := s.Edit("x", edit.Editor{Command: name + " " + setup.args}); err != nil {
				t.Skipf("%s cannot be driven here: %v", name, err)
			}
			if v, err := s.Show("x"); err != nil || string(v) != "TOKEN=hunter2-canary\nTOKEN=hunter2-canary\n" {
				t.Fatalf("%s saved %d bytes, %v: it was not driven", name, len(v), err)
			}
			for f, v := range files(t, home) {
				if f != "keys" && strings.Contains(v, "hunter2-canary") {
					t.Errorf("%s kept the value in %s", name, f)
				}
			}
			if len(files(t, dir)) != 0 {
				t.Error("something was left in RAM")
			}
		})
	}
}

func TestUndumpable(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BELLHOP_TEST_ROLE=undumpable")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := string(out); s != "" && !strings.Contains(s, "Max core file size 0 0") {
		t.Errorf("limits say %q, want 0 0", s)
	}
}
