package outcome

import (
	"cmp"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// AfterTries is the end of a host after another try: what was seen of the tries before is kept.
func AfterTries(before, e history.End) history.End {
	e.FailedServices = slices.Concat(before.FailedServices, e.FailedServices)
	was, _ := before.Details.(*bundle.Result)
	if was == nil {
		return e
	}

	now, _ := e.Details.(*bundle.Result)
	if now == nil {
		now = &bundle.Result{Run: was.Run, Outcome: was.Outcome}
	}
	both := *now
	both.Evidence = slices.Concat(was.Evidence, now.Evidence)
	both.Failing = slices.Compact(slices.Sorted(slices.Values(slices.Concat(was.Failing, now.Failing))))
	both.Warnings = slices.Clone(was.Warnings)
	for _, w := range now.Warnings {
		if !slices.Contains(both.Warnings, w) { // what stays in the way is told by each try
			both.Warnings = append(both.Warnings, w)
		}
	}
	e.Details = &both
	e.Error = cmp.Or(e.Error, before.Error)
	return e
}
