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
	both.Warnings = slices.Concat(was.Warnings, now.Warnings)
	e.Details = &both
	e.Error = cmp.Or(e.Error, before.Error)
	return e
}
