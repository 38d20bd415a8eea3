package main

import (
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// A host without a record has nothing to give back, which is good only where it had nothing,
// or where it was given back by a run whose end we did not hear.
func TestGivenBack(t *testing.T) {
	had := history.Host{Had: true}
	ended := func(run, outcome string) *bundle.Result { return &bundle.Result{Run: run, Outcome: outcome} }
	for name, tt := range map[string]struct {
		hello bundle.Hello
		was   history.Host
		gone  bool
		lost  bool
	}{
		"stands":               {hello: bundle.Hello{Record: &bundle.Record{}}, was: had},
		"never had anything":   {},
		"given back":           {hello: bundle.Hello{Last: ended("undo-a", bundle.OutcomeDone)}, was: had, gone: true},
		"lost":                 {was: had, lost: true},
		"lost, by its digest":  {was: history.Host{Digest: "d"}, lost: true},
		"lost, by what it got": {was: history.Host{Given: "d"}, lost: true},
		"undo failed":          {hello: bundle.Hello{Last: ended("undo-a", bundle.OutcomeFailed)}, was: had, lost: true},
		"deploy was the last":  {hello: bundle.Hello{Last: ended("r-1", bundle.OutcomeDone)}, was: had, lost: true},
	} {
		if gone, err := givenBack(tt.hello, tt.was); gone != tt.gone || (err != nil) != tt.lost {
			t.Errorf("%s: givenBack = %v, %v, want %v and an error: %v", name, gone, err, tt.gone, tt.lost)
		}
	}
}
