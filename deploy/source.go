package deploy

import "bellhop/deploy/commits"

// A Snapshot is one commit of the config repo, as a read-only tree.
type Snapshot = commits.Snapshot

// A Source is where commits come from.
type Source = commits.Source

// From makes a Source of a clone.
var From = commits.From

// ErrRefused says that a run was refused as a whole; errors.Is finds it.
var ErrRefused = commits.ErrRefused
