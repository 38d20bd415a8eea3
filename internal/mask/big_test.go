package mask_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"bellhop/internal/mask"
)

// letters are a value that no other line repeats.
func letters(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[rng.IntN(62)]
	}
	return string(b)
}

// A key of nearly a megabyte is kept by a few bytes for each spelling, and still found.
func TestFilterOfABigKey(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var lines []string
	for i := range 20_000 {
		lines = append(lines, fmt.Sprintf("KEY_%d=%s", i, letters(rng, 32)))
	}
	long := letters(rng, 900<<10)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var f mask.Filter
	f.Add("env", []byte(strings.Join(lines, "\n")))
	f.Add("long", []byte(long))
	f.Prepare()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20; grown > 40 {
		t.Errorf("a filter of two keys of 0.9 MB holds %d MiB, want at most 40", grown)
	}
	_, value, _ := strings.Cut(lines[7777], "=")
	for _, tt := range []struct{ in, want string }{
		{"plain text of an error", "plain text of an error"},
		{"bad password " + value + "!", "bad password ‹key env›!"},
		{"line " + lines[3], "line ‹key env›"},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte(value)), "Basic ‹key env›"},
		{"cut: " + value[:20], "cut: ‹key env›"},
		{"begins " + long[:9000], "begins ‹key long›"},
		{long[len(long)-9000:] + " ends", "‹key long› ends"},
		{"begins " + hex.EncodeToString([]byte(long[:9000])), "begins ‹key long›"},
	} {
		if got := f.Text(tt.in); got != tt.want {
			t.Errorf("Text(%.40q…) = %.60q…, want %q", tt.in, got, tt.want)
		}
	}
	// The tail of base64 as the whole value spells it, padding and all.
	all := base64.StdEncoding.EncodeToString([]byte(long + "\n"))
	if got := f.Text(all[len(all)-5000:] + " ends"); got != "‹key long› ends" {
		t.Errorf("the tail of a long value in base64 gives %.60q…", got)
	}
}
