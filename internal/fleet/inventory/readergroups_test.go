package inventory

import (
	"fmt"
	"slices"
	"testing"

	"bellhop/internal/fleet/yaml"
)

// TestReaderGroups: groups of groups cost their number, not two to its power.
func TestReaderGroups(t *testing.T) {
	var es yaml.Entries[yaml.List]
	add := func(name string, readers ...string) {
		e := yaml.Entry[yaml.List]{Key: name}
		for _, r := range readers {
			e.Value = append(e.Value, yaml.String{S: r})
		}
		es = append(es, e)
	}
	for i := range 60 {
		add(fmt.Sprintf("g%d", i), fmt.Sprintf("g%d", i+1), fmt.Sprintf("g%d", i+1))
	}
	add("g60", "age1last")
	add("round", "circle", "age1a")
	add("circle", "round", "age1b")

	g := newReaderGroups(es)
	if got := g.expand("g0"); !slices.Equal(got, []string{"age1last"}) || g.steps > 200 {
		t.Errorf("expand(g0) = %v after %d steps", got, g.steps)
	}
	if got := g.expand("circle"); !slices.Equal(got, []string{"age1a", "age1b"}) {
		t.Errorf("expand(circle) = %v", got)
	}
}
