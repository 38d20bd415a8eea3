package plain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"bellhop/internal/plain"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"fix the bot", "fix the bot"},
		{"größer, 日本, 🛎", "größer, 日本, 🛎"},
		{"a\nb\r\nc\td", "a b  c d"},
		{"\x1b]0;owned\a\x1b[2J", "]0;owned[2J"},
		{"user\u202exof\u202c", "userxof"},
		{"a\u2066b\u2069c\u200bd\ufeffe", "abcde"},
		{"one\u2028two\u0085three", "one two three"},
		{"bad\xff\xfebytes", "badbytes"},
		{"\u009b31mred", "31mred"},
	} {
		if got := plain.Line(c.in, 0); got != c.want {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestTextKeepsLines(t *testing.T) {
	if got, want := plain.Text("a\r\nb\n\tc\u2028d\x1b[1m", 100), "a\nb\n\tc\nd[1m"; got != want {
		t.Errorf("Text = %q, want %q", got, want)
	}
}

func TestCutEndsBeforeACharacter(t *testing.T) {
	for limit := 1; limit < 40; limit++ {
		got := plain.Line(strings.Repeat("größe ", 10), limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("Line(…, %d) = %q: %d bytes", limit, got, len(got))
		}
	}
	if got, want := plain.Line("abcdefgh", 6), "abc…"; got != want {
		t.Errorf("Line = %q, want %q", got, want)
	}
}

func TestForeignIsNotPrinted(t *testing.T) {
	const secret = "hunter2-hunter2"
	f := plain.NewForeign(secret)
	holder := struct {
		Words plain.Foreign
		List  []plain.Foreign
	}{f, []plain.Foreign{f}}

	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "words", f, "holder", holder)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "words", f)

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{f, &f, holder, &holder} {
			if out := fmt.Sprintf(verb, value); strings.Contains(out, secret) || strings.Contains(out, "68756e") {
				t.Errorf("Sprintf(%s, %T) shows the text: %s", verb, value, out)
			}
		}
	}
	if err := fmt.Errorf("it said %v: %w", f, errors.ErrUnsupported); strings.Contains(err.Error(), secret) {
		t.Errorf("an error shows the text: %v", err)
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("a log line shows the text: %s", log.String())
	}
}

func TestForeignOverTheWire(t *testing.T) {
	data, err := json.Marshal(plain.NewForeign("a\"b"))
	if err != nil {
		t.Fatal(err)
	}
	var back plain.Foreign
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Filtered(strings.ToUpper); got != `A"B` || !back.Is(`a"b`) || back.IsEmpty() {
		t.Errorf("Filtered = %q after the wire", got)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\u202eb\x1b[0m\n", 8)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 1 + (limit&0xffff)%4096
		for _, out := range []string{plain.Line(s, limit), plain.Text(s, limit)} {
			if len(out) > limit || !utf8.ValidString(out) {
				t.Fatalf("%q has %d bytes of %d, or is not UTF-8", out, len(out), limit)
			}
		}
		if out := plain.Line(s, limit); !plain.IsLine(out) {
			t.Fatalf("Line(%q) = %q, which IsLine refuses", s, out)
		}
	})
}

func TestVisibleLosesNothing(t *testing.T) {
	for _, c := range []struct{ in, want, name string }{
		{"größe 日本\t🛎\n", "größe 日本\t🛎\n", "größe 日本\\u0009🛎\\u000a"},
		{"\x1b]0;x\a", `\u001b]0;x\u0007`, ""},
		{"a\u202eb\u2066c\u200bd", `a\u202eb\u2066c\u200bd`, ""},
		{"one\u2028two\rthree", `one\u2028two\u000dthree`, ""},
		{"\xff\xfe", `\u00ff\u00fe`, ""},
		{"tag \U000e0041", `tag \udb40\udc41`, ""},
	} {
		if c.name == "" {
			c.name = c.want
		}
		if got := plain.Visible(c.in); got != c.want {
			t.Errorf("Visible(%q) = %q, want %q", c.in, got, c.want)
		}
		if got := plain.Name(c.in); got != c.name {
			t.Errorf("Name(%q) = %q, want %q", c.in, got, c.name)
		}
	}

	var back string
	const text = "a\u202eb\u2028\U000e0041\\"
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	shown := plain.Visible(string(quoted))
	if err := json.Unmarshal([]byte(shown), &back); err != nil || back != text {
		t.Errorf("Visible(%s) = %s, which reads as %q, %v", quoted, shown, back, err)
	}
}

func TestWithoutLogin(t *testing.T) {
	for in, want := range map[string]string{
		"sync https://ghp_secret@github.com/a/b: no": "sync https://***@github.com/a/b: no",
		"https://user:pa-ss@host:8443/x.git":         "https://***@host:8443/x.git",
		"ssh://git:hunter2@host/x, ssh://git@host/y": "ssh://git:***@host/x, ssh://git@host/y",
		`{"repo":"HTTPS://tok@h/x"}`:                 `{"repo":"HTTPS://***@h/x"}`,
		"git@github.com:a/b.git, cadey@example.com":  "git@github.com:a/b.git, cadey@example.com",
		"https://host/a@b":                           "https://host/a@b",
	} {
		if got := plain.WithoutLogin(in); got != want {
			t.Errorf("WithoutLogin(%q) = %q, want %q", in, got, want)
		}
	}
}

// A text is read as encoding/json reads it, whether it has something to decode or not.
func TestForeignIsReadAsJSON(t *testing.T) {
	for _, data := range []string{`""`, `"a"`, `"file:/etc/web/0"`, `"a\"b"`, `"\u00e9"`, `"é"`, `"\ud800"`, `"` + "\xff" + `"`, `null`, `"\n"`, `"~"`, "\"\x7f\""} {
		var want string
		if err := json.Unmarshal([]byte(data), &want); err != nil {
			t.Fatal(err)
		}
		var got plain.Foreign
		if err := json.Unmarshal([]byte(data), &got); err != nil || !got.Is(want) {
			t.Errorf("reading %s gives %v, %v; want %q", data, got, err, want)
		}
	}
	for _, data := range []string{`1`, `"`, `{}`, `"a"b"`, "\"a\nb\""} {
		var got plain.Foreign
		if err := got.UnmarshalJSON([]byte(data)); err == nil {
			t.Errorf("%s is taken for a text", data)
		}
	}
}

// Of what a host says nothing is read as the id of a commit but that.
func TestForeignCommit(t *testing.T) {
	id := strings.Repeat("0a", 20)
	for text, want := range map[string]string{id: id, strings.Repeat("f", 64): strings.Repeat("f", 64), "": "", id[1:]: "", "../" + id[3:]: "", strings.ToUpper(id): "", id + "\n": ""} {
		if got := plain.NewForeign(text).Commit(); got != want {
			t.Errorf("Commit() of %q = %q, want %q", text, got, want)
		}
	}
}
