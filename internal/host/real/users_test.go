package real

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A session of the user's own systemd is no login.
func TestLoggedIn(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if loggedIn(dir, 1000) {
		t.Error("a user whom logind does not know is logged in")
	}
	write("users/1000", "# This is private data. Do not parse.\nNAME=app\nSESSIONS=c5\n")
	write("sessions/c5", "UID=1000\nCLASS=manager\n")
	if loggedIn(dir, 1000) {
		t.Error("the user's own systemd counts as a login")
	}
	write("users/1000", "NAME=app\nSESSIONS=c5 c6\n")
	write("sessions/c6", "UID=1000\nCLASS=user\n")
	if !loggedIn(dir, 1000) {
		t.Error("a login is not seen")
	}
}
