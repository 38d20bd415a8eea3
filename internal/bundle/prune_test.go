package bundle_test

import (
	"fmt"
	"testing"

	"bellhop/internal/bundle"
)

// How services are started and judged is nothing that a host has: it neither keeps the guard from
// seeing that they leave, nor counts as a loss.
func TestPruneGuardOfJudging(t *testing.T) {
	var both, only, none bundle.Manifest
	for i := range 3 {
		name := fmt.Sprint("svc", i)
		file := bundle.File{Path: "/etc/" + name, Service: name}
		judged := bundle.Service{Name: name, Before: []bundle.Step{{Command: "true"}}}
		both.Files, both.Services = append(both.Files, file), append(both.Services, judged)
		only.Services = append(only.Services, judged)
		none.Files = append(none.Files, file)
	}

	if l := bundle.PruneGuard(both, only); l == nil || l.Gone != 3 || l.Of != 3 || len(l.Services) != 3 {
		t.Errorf("files of 3 services leave, their health stays: %+v, want 3 of 3 things of 3 services", l)
	}
	if l := bundle.PruneGuard(both, none); l != nil {
		t.Errorf("health of 3 services leaves: %+v, want no loss", l)
	}
}
