package deploy

import (
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
)

// A Snapshot is one commit of the config repo, as a read-only tree.
type Snapshot = commits.Snapshot

// A Source is where commits come from.
type Source = commits.Source

// From makes a Source of a clone.
var From = commits.From

// ErrRefused says that a run was refused as a whole; errors.Is finds it.
var ErrRefused = commits.ErrRefused

// A Plan is what a run would do, and all that it needs to do it.
type Plan = plan.Plan

// A Request asks for a run.
type Request = plan.Request

// A Rollback asks a run to bring hosts back to what they held before.
type Rollback = plan.Rollback
