package history_test

import (
	"slices"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// Find chooses runs by time, by host, and by what came of them; with hosts and outcomes, by what came of these hosts.
func TestFind(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	base := time.Now().Add(-10 * time.Hour)
	push := func(id string, at time.Time, outcome history.Outcome, hosts map[string]history.Outcome) {
		s := history.Start{ID: id, Commit: "c" + id, Cause: "push", At: at}
		var planned []history.Planned
		for name := range hosts {
			planned = append(planned, history.Planned{Name: name, State: history.Behind, Wanted: "d" + id, Listed: true})
		}
		must(t, db.Plan(ctx, s, s.Commit, planned, nil))
		for name, o := range hosts {
			must(t, db.Begun(ctx, id, name, "d"+id), db.Ended(ctx, id, name, history.End{Outcome: o, Digest: "d" + id, Commit: s.Commit, Record: record(1, "d"+id), Manifest: &bundle.Manifest{Host: name}}))
		}
		must(t, db.FinishRun(ctx, s, outcome, ""))
	}
	push("1", base, history.OutcomeDone, map[string]history.Outcome{"a": history.OutcomeDone})
	push("2", base.Add(time.Hour), history.OutcomePartial, map[string]history.Outcome{"a": history.OutcomeDone, "b": history.OutcomeRolledBack})
	push("3", base.Add(2*time.Hour), history.OutcomeFailed, map[string]history.Outcome{"b": history.OutcomeFailed})

	failed := []history.Outcome{history.OutcomeFailed, history.OutcomeRolledBack}
	for _, c := range []struct {
		f    history.RunFilter
		want []string
	}{
		{history.RunFilter{}, []string{"3", "2", "1"}},
		{history.RunFilter{Limit: 1}, []string{"3"}},
		{history.RunFilter{Since: base.Add(time.Hour)}, []string{"3", "2"}},
		{history.RunFilter{Hosts: []string{"a"}}, []string{"2", "1"}},
		{history.RunFilter{Outcomes: failed}, []string{"3", "2"}},
		{history.RunFilter{Outcomes: failed, Hosts: []string{"a"}}, nil},
		{history.RunFilter{Outcomes: failed, Hosts: []string{"a", "b"}, Since: base.Add(90 * time.Minute)}, []string{"3"}},
		{history.RunFilter{Outcomes: []history.Outcome{history.OutcomePartial}}, []string{"2"}},
	} {
		h, err := db.Find(ctx, c.f)
		must(t, err)
		var got []string
		for _, r := range h.Runs {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Find(%+v) = %v, want %v", c.f, got, c.want)
		}
	}
}
