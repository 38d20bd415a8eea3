package deploy

import "bellhop/deploy/plan"

// A Plan is what a run would do, and all that it needs to do it.
type Plan = plan.Plan

// A Request asks for a run.
type Request = plan.Request

// A Rollback asks a run to bring hosts back to what they held before.
type Rollback = plan.Rollback
