package deploy_test

import (
	"testing"

	"bellhop/internal/history"
)

// A push that goes well says nothing that needs the filter, though a key changed and somebody
// watches: opening keys, and loading the commit of those that stood, would be for each host.
func TestNoFilterForAKeyThatChanges(t *testing.T) {
	w := newWorld(t, "a")
	w.confirm = "30s"
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)

	var texts []string
	w.d.Filter = func(map[string][]byte) func(string) string {
		return func(s string) string { texts = append(texts, s); return s }
	}
	w.files["secrets/key0.age"] = "another value of it"
	w.push("second", history.OutcomeDone)
	if len(texts) > 0 {
		t.Errorf("a host's words passed a filter: %q", texts)
	}
}
