package real

import (
	"slices"
	"strings"
	"testing"
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
