package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// hostile is what a stranger may name a file, a branch or a commit.
const hostile = "\x1b]0;pwned\a\x1b[2J\x1b[8mhidden\u202egnp.exe\u2066\u200b\U000e0041\x9b31m\r\x7f"

func TestOutputShowsWhatATerminalWouldObey(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var b bytes.Buffer
		o := &output{Writer: &b, hasColour: colour}
		fmt.Fprintf(o, "%s: %s\n", paint(colour).red("name"), hostile)
		got := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(b.String())
		if !colour {
			got = b.String()
		}
		if i := strings.IndexFunc(got, func(r rune) bool {
			return r < ' ' && r != '\n' || strings.ContainsRune("\x7f\u202e\u2066\u200b\U000e0041\u009b", r)
		}); i >= 0 {
			t.Errorf("colour %v: %q passes something at %d", colour, got, i)
		}
		if !strings.Contains(got, `\u001b]0;pwned\u0007\u001b[2J\u001b[8mhidden\u202egnp.exe`) {
			t.Errorf("colour %v: %q does not show what is there", colour, got)
		}
	}
}

// A child such as ssh ends its lines in CR LF, and may write the two apart. A CR alone stays shown.
func TestOutputTakesLineEndsOfTerminals(t *testing.T) {
	for _, parts := range [][]string{{"refused\r\nbad\rline\n"}, {"refused\r", "\nbad\r", "line\n"}} {
		var b bytes.Buffer
		o := &output{Writer: &b}
		for _, p := range parts {
			fmt.Fprint(o, p)
		}
		if got, want := b.String(), "refused\nbad\\u000dline\n"; got != want {
			t.Errorf("%q is shown as %q, want %q", parts, got, want)
		}
	}
}

func TestOutputKeepsCharactersThatComeInParts(t *testing.T) {
	var b bytes.Buffer
	o := &output{Writer: &b}
	const text = "größe 日本 🛎\u202e\n"
	for _, c := range []byte(text) {
		if n, err := o.Write([]byte{c}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got, want := b.String(), "größe 日本 🛎\\u202e\n"; got != want {
		t.Errorf("one byte at a time: %q, want %q", got, want)
	}
	raw(o).Write([]byte(hostile))
	if !strings.HasSuffix(b.String(), hostile) {
		t.Error("raw output was changed")
	}
}

func TestJSONShowsAndKeepsHostileText(t *testing.T) {
	var b bytes.Buffer
	e := &Env{Stdout: &output{Writer: &b}}
	if err := e.writeJSON(map[string]string{"subject": hostile}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\u202e\u2066\u200b\x1b\x7f") {
		t.Errorf("JSON has it raw: %q", b.String())
	}
	var back map[string]string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["subject"] != strings.ToValidUTF8(hostile, "\ufffd") {
		t.Errorf("JSON reads as %q, %v", back, err)
	}
}
