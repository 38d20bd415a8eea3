package real

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadEntries(t *testing.T) {
	in := `{"MESSAGE":"last"}
{"MESSAGE":"two\nlines\n"}
{"MESSAGE":[104,105,255,10]}
{"MESSAGE":null}
{"OTHER":"x"}
not json
{"MESSAGE":"first"}
{"MESSAGE":"torn`
	for _, tt := range []struct {
		most int
		want []string
	}{
		{50, []string{"first", "", "(a message of more than 4 KiB: it is in the journal)", "(a message of more than 4 KiB: it is in the journal)", "hi�", "two", "lines", "last"}},
		{2, []string{"lines", "last"}},
		{3, []string{"two", "lines", "last"}},
	} {
		if got, _ := readEntries(strings.NewReader(in), tt.most); !slices.Equal(got, tt.want) {
			t.Errorf("the last %d = %q, want %q", tt.most, got, tt.want)
		}
	}
	long := strings.NewReader(strings.Repeat(`{"MESSAGE":"`+strings.Repeat("x", 4000)+"\"}\n", 1000))
	if got, _ := readEntries(long, 10_000); len(got) > journalBytes/4000 {
		t.Errorf("%d lines of a journal without end", len(got))
	}
	for in, want := range map[string]bool{`{"MESSAGE":"x","_PID":"1"}`: false, `{"MESSAGE":"x","_PID":"17"}`: true, "": false} {
		if _, heard := readEntries(strings.NewReader(in+"\n"), 50); in != "" && heard != want {
			t.Errorf("heard of %s = %v, want %v", in, heard, want)
		}
	}
}

// Where a unit said nothing in its last life, what it said before the run is no evidence of the run.
func TestLinesOfAnEarlierRunAreNoEvidence(t *testing.T) {
	dir := t.TempDir()
	said := filepath.Join(dir, "asked")
	script := `#!/bin/sh
echo "$*" >>` + said + `
case "$*" in
*INVOCATION*) echo '{"MESSAGE":"Failed with result exit-code.","_PID":"1"}' ;;
*--since=@1000.000500*) echo '{"MESSAGE":"of this run","_PID":"7"}' ;;
*--since=*) ;;
*-u*) echo '{"MESSAGE":"of another run","_PID":"7"}' ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	life := strings.Repeat("a", 32)
	for _, tt := range []struct {
		name  string
		since time.Time
		want  string
	}{
		{"the run's own lines", time.UnixMicro(1000_000500), "of this run"},
		{"nothing was said, by a clock that was set back", time.UnixMicro(2000_000000), "Failed with result exit-code."},
		{"since boot", time.Time{}, "of another run"},
	} {
		if got := (Journal{}).Lines(t.Context(), "x.service", life, tt.since, 50); !slices.Equal(got, []string{tt.want}) {
			asked, _ := os.ReadFile(said)
			t.Errorf("%s: %q, want %q; asked:\n%s", tt.name, got, tt.want, asked)
		}
	}
}
