package real

import (
	"os"
	"path/filepath"
	"testing"
)

// What sysusers and usermod do to the file must be seen by the next look-up, and what they did
// not do must cost no reading.
func TestTableSeesEveryChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	write := func(to, text string) {
		t.Helper()
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	home := func(tb *table, name string) string {
		t.Helper()
		f, ok, err := tb.find(0, name)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ""
		}
		return f[5]
	}
	tb := &table{path: path}
	if _, _, err := tb.find(0, "root"); err == nil {
		t.Error("a file that is not there is no error")
	}
	write(path, "# a note\nroot:x:0:0::/root:/bin/sh\ntorn\n")
	if got := home(tb, "root"); got != "/root" {
		t.Errorf("home of root = %q", got)
	}
	tb.lines[0][5] = "/kept"
	if got := home(tb, "root"); got != "/kept" {
		t.Error("an unchanged file was read again")
	}
	write(path+".new", "root:x:0:0::/rOOt:/bin/sh\n")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if got := home(tb, "root"); got != "/rOOt" {
		t.Errorf("after a rename home of root = %q", got)
	}
	write(path, "root:x:0:0::/root:/bin/sh\nbot:x:9:9::/srv/bot:/bin/false")
	if got := home(tb, "bot"); got != "/srv/bot" {
		t.Errorf("after a line was added its home = %q", got)
	}
	if got := home(tb, "no-such"); got != "" {
		t.Errorf("home of nobody = %q", got)
	}
}
