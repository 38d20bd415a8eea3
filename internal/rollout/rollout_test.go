package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/rollout"
)

func steps(t *testing.T, texts ...string) []rollout.Step {
	t.Helper()
	var all []rollout.Step
	for _, text := range texts {
		s, err := rollout.ParseStep(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// hosts reads "a b@canary c@x@y d!": names with tags; ! marks the one that bellhop runs on.
func hosts(text string) []rollout.Host {
	var all []rollout.Host
	for _, word := range strings.Fields(text) {
		name, own := strings.CutSuffix(word, "!")
		parts := strings.Split(name, "@")
		all = append(all, rollout.Host{Name: parts[0], Tags: parts[1:], Own: own})
	}
	return all
}

func shown(waves [][]string) string {
	var all []string
	for _, w := range waves {
		all = append(all, strings.Join(w, " "))
	}
	return strings.Join(all, " | ")
}

func TestWaves(t *testing.T) {
	for _, c := range []struct {
		hosts string
		steps []string
		after map[string][]string
		want  string
	}{
		{"", []string{"1"}, nil, ""},
		{"a", []string{"1"}, nil, "a"},
		{"a b c", nil, nil, "a b c"},
		{"a b c", []string{"1"}, nil, "a | b c"},
		{"a b c", []string{"5"}, nil, "a b c"},
		{"a b c", []string{"100%"}, nil, "a b c"},
		{"a b c d e f g", []string{"1", "50%"}, nil, "a | b c d | e f g"},
		{"a b c d e f", []string{"50%", "50%"}, nil, "a b c | d e | f"},
		{"a b c d", []string{"1%", "1%"}, nil, "a | b | c d"},
		{"a b@canary c d@canary", []string{"@canary"}, nil, "b d | a c"},
		{"a b@canary c d@canary", []string{"1", "@canary", "50%"}, nil, "a | b d | c"},
		{"a b c", []string{"@nobody"}, nil, "a b c"},
		{"b a", []string{"1"}, nil, "b | a"},
		{"a! b c", []string{"1"}, nil, "b | c | a"},
		{"a! b c! d", nil, nil, "b d | a | c"},
		{"a! b@x", []string{"@x", "100%"}, nil, "b | a"},
		{"a b c", []string{"1"}, map[string][]string{"a": {"b"}}, "b | a c"},
		{"a b c", nil, map[string][]string{"a": {"b"}, "b": {"c"}}, "c | b | a"},
		{"a b c d", []string{"2"}, map[string][]string{"b": {"a"}}, "a c | b d"},
		{"a c", nil, map[string][]string{"a": {"b"}, "b": {"c"}}, "c | a"}, // through b, which does not change
		{"a@x b", []string{"@x"}, map[string][]string{"a": {"b"}}, "b | a"},
		{"a@x b@x c", []string{"@x"}, map[string][]string{"a": {"b"}}, "b | a | c"},
		{"a b c", nil, map[string][]string{"a": {"gone"}}, "a b c"},
		{"a! b", nil, map[string][]string{"b": {"a"}}, "b | a"},
		{"a b c", nil, map[string][]string{"a": {"b"}, "b": {"a"}}, "c | a | b"},
	} {
		got := shown(rollout.Waves(hosts(c.hosts), steps(t, c.steps...), func(h string) []string { return c.after[h] }))
		if got != c.want {
			t.Errorf("Waves(%q, %q, %v) = %q, want %q", c.hosts, c.steps, c.after, got, c.want)
		}
	}
}

func TestParseStep(t *testing.T) {
	for text, want := range map[string]rollout.Step{"1": {Count: 1}, "20": {Count: 20}, "1%": {Percent: 1}, "100%": {Percent: 100}, "@canary": {Tag: "canary"}} {
		if got, err := rollout.ParseStep(text); err != nil || got != want {
			t.Errorf("ParseStep(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "+1", "01", "1.5", "0%", "101%", "%", "%5", "@", "canary", "1 ", "99999999", "99999999999999999999"} {
		if got, err := rollout.ParseStep(text); err == nil {
			t.Errorf("ParseStep(%q) = %+v, want an error", text, got)
		}
	}
}

// Whatever the hosts, steps and orders are: each host is in one wave, no wave is larger than its step,
// a host comes in a later wave than those that it comes after, and bellhop's own comes last and alone.
func TestWavesKeepTheirPromises(t *testing.T) {
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		all, after, own := randomHosts(rnd)
		taken := randomSteps(rnd)
		waves := rollout.Waves(all, taken, func(h string) []string { return after[h] })
		at := map[string]int{}
		for i, w := range waves {
			if len(w) == 0 {
				t.Fatalf("seed %d: wave %d is empty: %q", seed, i, shown(waves))
			}
			for _, name := range w {
				if _, twice := at[name]; twice {
					t.Fatalf("seed %d: %s is in two waves: %q", seed, name, shown(waves))
				}
				at[name] = i
			}
		}
		if len(at) != len(all) {
			t.Fatalf("seed %d: %d hosts in waves of %d", seed, len(at), len(all))
		}

		for h, firsts := range after {
			for _, first := range firsts {
				a, ok := at[h]
				b, isThere := at[first]
				if ok && isThere && h != own && first != own && a <= b {
					t.Fatalf("seed %d: %s comes after %s: %q", seed, h, first, shown(waves))
				}
			}
		}
		if own != "" && !slices.Equal(waves[len(waves)-1], []string{own}) {
			t.Fatalf("seed %d: %s is bellhop's own: %q", seed, own, shown(waves))
		}
		if len(taken) > 0 && taken[0].Count > 0 && len(waves) > 0 && len(waves[0]) > taken[0].Count {
			t.Fatalf("seed %d: %d hosts in the first wave, want at most %d", seed, len(waves[0]), taken[0].Count)
		}
		if again := rollout.Waves(all, taken, func(h string) []string { return after[h] }); shown(again) != shown(waves) {
			t.Fatalf("seed %d: %q, and the second time %q", seed, shown(waves), shown(again))
		}
	}
}

// randomHosts have an order without a circle: each comes after ones with a larger number only.
func randomHosts(rnd *rand.Rand) (all []rollout.Host, after map[string][]string, own string) {
	n := rnd.IntN(12)
	after = map[string][]string{}
	for i := range n {
		h := rollout.Host{Name: fmt.Sprint("h", i)}
		if rnd.IntN(3) == 0 {
			h.Tags = []string{"t"}
		}
		for j := i + 1; j < n+2; j++ {
			if rnd.IntN(6) == 0 {
				after[h.Name] = append(after[h.Name], fmt.Sprint("h", j))
			}
		}
		all = append(all, h)
	}
	if n > 0 && rnd.IntN(2) == 0 {
		i := rnd.IntN(n)
		all[i].Own, own = true, all[i].Name
	}
	return all, after, own
}

func randomSteps(rnd *rand.Rand) (all []rollout.Step) {
	for range rnd.IntN(4) {
		all = append(all, []rollout.Step{{Count: 1 + rnd.IntN(4)}, {Percent: 1 + rnd.IntN(100)}, {Tag: "t"}}[rnd.IntN(3)])
	}
	return all
}
