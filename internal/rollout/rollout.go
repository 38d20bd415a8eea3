// Package rollout divides the hosts of a run into waves.
//
// A wave is a list of hosts that are pushed together; the next one begins when each host of it has
// ended. Which host is in which wave is a function of the hosts and of rollout: in bellhop.yaml, and of
// nothing else.
package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Step is one item of waves: how many of the hosts that are left come next. Exactly one field is set.
type Step struct {
	Count   int    // so many hosts
	Percent int    // so many of a hundred of the hosts that are left, rounded up
	Tag     string // all hosts with that tag
}

// MaxSteps is how many steps a rollout may have.
const MaxSteps = 100

// maxCount bounds the count of a step; no fleet is larger.
const maxCount = 1_000_000

// ParseStep reads a step as people write it: "1", "50%" or "@canary".
func ParseStep(text string) (Step, error) {
	if tag, ok := strings.CutPrefix(text, "@"); ok && tag != "" {
		return Step{Tag: tag}, nil
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		n, ok := number(share)
		if !ok || n < 1 || n > 100 {
			return Step{}, fmt.Errorf("%q is no share of hosts: want 1%% to 100%%", text)
		}
		return Step{Percent: n}, nil
	}

	n, ok := number(text)
	if !ok || n < 1 || n > maxCount {
		return Step{}, fmt.Errorf("%q is no wave: want a number of hosts (\"1\"), a share of those that are left (\"50%%\") or a tag (\"@canary\")", text)
	}

	return Step{Count: n}, nil
}

// number reads digits that have one way to be written.
func number(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && strconv.Itoa(n) == text
}

// A Host is what a rollout knows of one that a run is to push.
type Host struct {
	Name string
	Tags []string
	Own  bool // bellhop itself runs there
}

// Waves divides hosts by steps, in the order in which they are given. What no step took comes last,
// together; each host on which bellhop itself runs comes after all others, and alone.
//
// after names the hosts that a host comes after, whether they are among hosts or not; nil means that
// none does. A host is in a later wave than each of hosts that it comes after, also through a host that
// is not among them: then one step makes several waves. An order that goes round in a circle is broken
// at its first host.
func Waves(hosts []Host, steps []Step, after func(host string) []string) [][]string {
	r := newDivision(hosts, after)
	for _, step := range steps {
		r.take(step)
	}
	r.take(Step{Count: len(r.left)})

	for _, h := range hosts {
		if h.Own {
			r.waves = append(r.waves, []string{h.Name})
		}
	}
	return r.waves
}

// A division is the hosts of a run while they are divided.
type division struct {
	left    []Host
	waiting map[string][]string // by host that is left: the others of left that it comes after
	isLeft  map[string]bool
	waves   [][]string
}

func newDivision(hosts []Host, after func(string) []string) *division {
	r := &division{isLeft: make(map[string]bool, len(hosts)), waiting: map[string][]string{}}
	for _, h := range hosts {
		if !h.Own {
			r.left = append(r.left, h)
			r.isLeft[h.Name] = true
		}
	}
	if after == nil {
		return r
	}

	for _, h := range r.left {
		if first := r.before(h.Name, after); len(first) > 0 {
			r.waiting[h.Name] = first
		}
	}
	return r
}

// before are the hosts of the run that a host comes after, directly or through others.
func (r *division) before(host string, after func(string) []string) []string {
	direct := after(host)
	if len(direct) == 0 {
		return nil
	}

	var first []string
	seen := map[string]bool{host: true}
	for open := slices.Clone(direct); len(open) > 0; open = open[1:] {
		name := open[0]
		if seen[name] {
			continue
		}

		seen[name] = true
		if r.isLeft[name] {
			first = append(first, name)
		}

		open = append(open, after(name)...)
	}

	return first
}

// take makes the waves of one step.
func (r *division) take(step Step) {
	for n := r.count(step); n > 0; {
		wave := r.ready(step, n)
		if len(wave) == 0 && step.Tag == "" && len(r.left) > 0 {
			wave = []string{r.left[0].Name} // they all wait for each other
		}
		if len(wave) == 0 {
			return
		}
		r.remove(wave)
		r.waves = append(r.waves, wave)
		n -= len(wave)
	}
}

// count is how many hosts a step takes at most.
func (r *division) count(step Step) int {
	switch {
	case step.Percent > 0:
		return (len(r.left)*step.Percent + 99) / 100
	case step.Tag != "":
		return len(r.left)
	}
	return min(step.Count, len(r.left))
}

// ready are the first n hosts that a step may take and that wait for none that is left.
func (r *division) ready(step Step, n int) []string {
	var wave []string
	for _, h := range r.left {
		if len(wave) == n {
			break
		}
		fits := step.Tag == "" || slices.Contains(h.Tags, step.Tag)
		if fits && !r.waits(h.Name) {
			wave = append(wave, h.Name)
		}
	}
	return wave
}

// waits says whether a host that comes before this one is left.
func (r *division) waits(host string) bool {
	return slices.ContainsFunc(r.waiting[host], func(name string) bool { return r.isLeft[name] })
}

func (r *division) remove(wave []string) {
	for _, name := range wave {
		delete(r.isLeft, name)
	}
	r.left = slices.DeleteFunc(r.left, func(h Host) bool { return !r.isLeft[h.Name] })
}
