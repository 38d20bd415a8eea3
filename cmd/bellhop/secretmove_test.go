package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMovesOfASource(t *testing.T) {
	for _, c := range []struct {
		from, to string
		files    []string
		want     [][2]string
		problem  string
	}{
		{from: "wg/{host}", to: "vpn/{host}", files: []string{"secrets/wg/a.age", "secrets/wg/b.age"},
			want: [][2]string{{"secrets/wg/a.age", "secrets/vpn/a.age"}, {"secrets/wg/b.age", "secrets/vpn/b.age"}}},
		{from: "secrets/{host}-{port}.age", to: "{port}/{host}", files: []string{"secrets/a-80.age"},
			want: [][2]string{{"secrets/a-80.age", "secrets/80/a.age"}}},
		{from: "wg/{host}", to: "vpn/{site}", files: []string{"secrets/wg/a.age"}, problem: "{site} is not in"},
		{from: "wg/{host}", to: "vpn", files: []string{"secrets/wg/a.age", "secrets/wg/b.age"}, problem: "would both be secrets/vpn.age"},
		{from: "w.g/{host}", to: "v/{host}", files: []string{"secrets/wxg/a.age"}, problem: "does not fit"},
	} {
		got, err := movesOf(c.files, c.from, c.to)
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("movesOf(%s, %s) = %v, want an error with %q", c.from, c.to, err, c.problem)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("movesOf(%s, %s): %v (-want +got):\n%s", c.from, c.to, err, diff)
		}
	}
}
