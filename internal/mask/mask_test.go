package mask_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bellhop/internal/mask"
)

func TestFilter(t *testing.T) {
	const value = `p@ss "word"/<&>` + "\x01" + `ü+hunter2`
	j, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var f mask.Filter
	f.Add("db", []byte(value+"\n"))
	f.Add("bot.env", []byte("TOKEN=abcdefghijkl\nNAME='quoted value'\nDEBUG=true\n"))
	f.Add("json", []byte(`{"a": {"b": ["deep-in-json"]}}`))
	f.Add("pin", []byte("8731\n"))
	f.Add("tiny", []byte("no"))
	for _, tt := range []struct{ in, want string }{
		{"plain text\n\tof two lines", "plain text\n\tof two lines"},
		{"a " + value + " b", "a ‹key db› b"},
		{"raw line " + value + "\n", "raw line ‹key db›"},
		{base64.StdEncoding.EncodeToString([]byte(value)), "‹key db›"},
		{"basic " + base64.StdEncoding.EncodeToString([]byte("user:"+value+":tail")), ""},
		{"x " + base64.URLEncoding.EncodeToString([]byte(value)), ""},
		{"hex " + hex.EncodeToString([]byte(value)) + ".", "hex ‹key db›."},
		{"HEX " + strings.ToUpper(hex.EncodeToString([]byte(value))) + ".", "HEX ‹key db›."},
		{"q=" + url.QueryEscape(value) + "&", "q=‹key db›&"},
		{"/" + url.PathEscape(value) + "/", "/‹key db›/"},
		{"q=" + strings.ToLower(url.QueryEscape(value)) + "&", "q=‹key db›&"},
		{"js p%40ss%20%22word%22%2F%3C%26%3E%01%C3%BC%2Bhunter2", "js ‹key db›"},
		{string(j), `"‹key db›"`},
		{"p@ss \x1b[31m\"wor\x00d\"/<&>\x01ü+hunter2", "‹key db›"},
		{"token abcdefghijkl!", "token ‹key bot.env›!"},
		{"TOKEN=abcdefghijkl", "‹key bot.env›"},
		{"it is a quoted value.", "it is a ‹key bot.env›."},
		{"it is true", "it is true"},
		{"found deep-in-json", "found ‹key json›"},
		{"pin 8731, no", "pin ‹key pin›, no"},
		{"\x1b[1;31mred\x1b[0m\x07\u202eevil\r\n", "redevil\n"},
		{"cut off abcdefghij", "cut off ‹key bot.env›"},
		{"defghijkl was cut off", "‹key bot.env› was cut off"},
		{"bad \xff utf-8", "bad  utf-8"},
	} {
		got := f.Text(tt.in)
		if tt.want != "" && got != tt.want {
			t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if strings.Contains(got, "hunter2") || tt.want == "" && !strings.Contains(got, "‹key db›") {
			t.Errorf("Text(%q) = %q: the value passes", tt.in, got)
		}
	}
	f.Max = 16
	if got := f.Text(strings.Repeat("ü", 100)); len(got) > 16 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("Text of a long line = %q", got)
	}
	// A value across the place where the text is cut.
	f.Max = 1024
	long := strings.Repeat("x", 4*1024+1024-6) + "abcdefghijkl"
	if got := f.Text(long); strings.Contains(got, "abcd") || len(got) > 1024 {
		t.Error("half a value passes where the text is cut")
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("abcdefghijkl", "x abcdefghijkl y", "NAME=second-value")
	f.Add("a\x1b[0mbcdefghi", "a\x1b[0mbc\x00defghi", "line one\nline two is long")
	f.Add("aaaaaaaa", "aaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaa")
	f.Add("aaaaa\x00\x00aaaaa", "aaaaa\x00\x00aaaaa0000", "aaaaaaaaaa0000") // values with control bytes between what passes
	f.Fuzz(func(t *testing.T, value, text, other string) {
		if len(value) > 256 || len(other) > 256 || len(text) > 4096 {
			return
		}
		var fl mask.Filter
		fl.Max = 2048
		fl.Add("one", []byte(value))
		fl.Add("two", []byte(other))
		for _, in := range []string{
			text, text + value + text, text + base64.StdEncoding.EncodeToString([]byte(value)) + text,
			text + hex.EncodeToString([]byte(value)), url.QueryEscape(value) + text,
		} {
			got := fl.Text(in)
			if len(got) > fl.Max || !utf8.ValidString(got) {
				t.Fatalf("Text gave %d bytes, or broken UTF-8", len(got))
			}
			for _, r := range got {
				if unicode.IsControl(r) && r != '\n' && r != '\t' {
					t.Fatalf("Text let %U pass", r)
				}
			}
			// What is left between the marks must not hold the value, nor a line of it.
			rest := strings.Split(strings.ReplaceAll(got, "‹key two›", "‹key one›"), "‹key one›")
			for _, v := range []string{value, other} {
				for line := range strings.SplitSeq(v, "\n") {
					line = strings.TrimSpace(line)
					passes := func(part string) bool { return strings.Contains(part, line) }
					if len(line) >= 8 && slices.ContainsFunc(rest, passes) {
						t.Fatalf("Text(%q) = %q let a line of a value pass", in, got)
					}
				}
			}
		}
	})
}
