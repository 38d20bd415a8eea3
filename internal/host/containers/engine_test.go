package containers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// A container that is gone between the list and the look is no failure: compose may be making it anew just now.
func TestContainerThatIsGoneMeanwhile(t *testing.T) {
	const state = `{"ID":%q,"Image":"","Ref":"","Restarts":0,"Policy":"","Status":"running","Exit":0,"OOM":false,"Error":"","Started":"2026-01-01T00:00:00Z","Finished":"0001-01-01T00:00:00Z","Health":"","Said":"","Service":"app","Hash":"","OneOff":false}`
	for name, c := range map[string]struct {
		lists []string // the ids of each list
		there string   // ids that can be looked at
		says  string   // of the others
		want  string
		calls int
	}{
		"another came":    {[]string{"old db", "new db"}, "new db", "No such object", "db new", 4},
		"it never came":   {[]string{"old db", "old db", "old db"}, "db", "No such object", "db", 6},
		"none is there":   {[]string{"old", "old", "old"}, "", "No such object", "", 6},
		"an engine fails": {[]string{"old db"}, "db", "Cannot connect to the Docker daemon", "an error", 2},
	} {
		p := &programs{}
		p.answer = func(_ context.Context, prog machine.Program) (machine.Output, error) {
			if prog.Argv[1] == "ps" {
				ids := c.lists[0]
				c.lists = c.lists[1:]
				return machine.Output{Stdout: strings.ReplaceAll(ids, " ", "\n")}, nil
			}
			var out machine.Output
			for _, id := range prog.Argv[4:] {
				if strings.Contains(" "+c.there+" ", " "+id+" ") {
					out.Stdout += fmt.Sprintf(state, id) + "\n"
					continue
				}
				out.Exit, out.Stderr = 1, out.Stderr+"Error: "+c.says+": "+id+"\n"
			}
			return out, nil
		}

		all, err := containers.Engine{Programs: p}.Containers(t.Context(), "x")
		var ids []string
		for _, s := range all {
			ids = append(ids, s.ID)
		}
		got := strings.Join(ids, " ")
		if err != nil {
			got = "an error"
		}
		if got != c.want || len(p.calls) != c.calls {
			t.Errorf("%s: %q (%v) by %d calls, want %q by %d", name, got, err, len(p.calls), c.want, c.calls)
		}
	}
}
