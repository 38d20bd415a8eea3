package push_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"bellhop/internal/mask"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

const value = `canary Z8UbkGyhmcVH6COL+/&<"=%qhX9trrLyY8Ij0pD`

func filter(said ...string) *push.Filter {
	p := &push.Pusher{Mask: mask.Of}
	return p.NewFilter(said, func() (map[string][]byte, error) {
		return map[string][]byte{"one": []byte(value), "two": []byte("other-value-of-a-key")}, nil
	})
}

// A value is taken out however it is split: over texts that follow each other, over lines, over
// words, raw or encoded. What remains of it is too short to be found.
func TestFilterOfSplitValues(t *testing.T) {
	b64, hexed := base64.StdEncoding.EncodeToString([]byte(value)), hex.EncodeToString([]byte(value))
	for name, texts := range map[string][]string{
		"whole":             {"it says " + value + "."},
		"halves":            {value[:20], value[20:]},
		"thirds":            {"x " + value[:15], value[15:30], value[30:] + " y"},
		"many":              {value[:12], value[12:18], value[18:24], value[24:30], value[30:36], value[36:42], value[42:]},
		"lines":             {"wrapped:\n" + value[:20] + "\n" + value[20:] + "\nend"},
		"lines, one masked": {"wrapped:\n" + value[:23] + "\n+/&<\"=" + value[29:]},
		"indented lines":    {"a\n   " + b64[:20] + "\n   " + b64[20:40] + "\n   " + b64[40:]},
		"words":             {b64[:20] + " " + b64[20:40] + " " + b64[40:]},
		"base64 in events":  {b64[:20], b64[20:40], b64[40:]},
		"hex in events":     {hexed[:30], hexed[30:60], hexed[60:]},
		"escape sequences":  {value[:20] + "\x1b[31m", "\x1b[0m" + value[20:]},
	} {
		f := filter()
		var all strings.Builder
		for _, text := range texts {
			all.WriteString(f.Text(text))
		}
		f.Drop()
		joined := strings.NewReplacer("\n", "", " ", "").Replace(all.String())
		for _, form := range []string{strings.ReplaceAll(value, " ", ""), b64, hexed} {
			for i := range len(form) - 11 {
				if strings.Contains(joined, form[i:i+12]) {
					t.Errorf("%s: %q shows %q", name, all.String(), form[i:i+12])
					break
				}
			}
		}
	}
}

// What holds no value is shown as it is, also after one that was masked.
func TestFilterShowsTheRest(t *testing.T) {
	f := filter("said")
	for _, c := range []struct{ in, want string }{
		{"said", "said"},
		{"unit withinbot.service failed", "unit withinbot.service failed"},
		{"password " + value + " refused", "password ‹key one› refused"},
		{"line one\nline two\n\tindented", "line one\nline two\n\tindented"},
		{"\x1b[31mred\x1b[0m and plain", "red and plain"},
		{"other-value-of-a-key", "‹key two›"},
		{"exit status 1", "exit status 1"},
	} {
		if got := f.Text(c.in); got != c.want {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// Where the values can't be had, nothing is shown of what the host said, but that it said it.
func TestFilterWithholds(t *testing.T) {
	p := &push.Pusher{Mask: mask.Of}
	f := p.NewFilter([]string{"said"}, func() (map[string][]byte, error) { return nil, errors.New("no identity") })
	err := &plain.Quote{What: "the login shell ended with status 1", Said: plain.NewForeign(value)}
	if got := f.Reveal(err); strings.Contains(got, "canary") || !strings.HasPrefix(got, "the login shell ended with status 1: ‹withheld") {
		t.Errorf("Reveal = %q", got)
	}
	if got := f.Text("said"); got != "said" {
		t.Errorf("Text of our own word = %q", got)
	}
	if got := f.Word(plain.NewForeign("some-boot-id")); got != "" {
		t.Errorf("Word = %q, want none", got)
	}

	f = filter()
	f.Drop()
	if got := f.Text("x " + value); strings.Contains(got, "canary") {
		t.Errorf("Text of a filter that was dropped = %q", got)
	}
}

// Where the values can't be had, the deployer is asked once for more of its own words.
func TestFilterAsksForMoreOfOurWords(t *testing.T) {
	p := &push.Pusher{Mask: mask.Of}
	f := p.NewFilter(nil, func() (map[string][]byte, error) { return nil, errors.New("no identity") })
	asked := 0
	f.AlsoSaid(func() []string { asked++; return []string{"web"} })
	for in, want := range map[string]bool{"web": true, "database": false} {
		if got := f.Text(in); (got == in) != want {
			t.Errorf("Text(%q) = %q, shown: %v", in, got, want)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
