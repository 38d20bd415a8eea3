package main

import (
	"os"

	"github.com/spf13/cobra"
)

// Where the deployer keeps its own, unless told otherwise.
const (
	defaultStateDir = "/var/lib/bellhop"

	// contrib/bellhop.service keeps it here: on a host of a fleet /var/lib/bellhop is root's,
	// and the unit's user must not own what root reads there.
	unitStateDir = "/var/lib/bellhop-deployer"
)

func stateDirFlag(c *cobra.Command, v *string) {
	c.Flags().StringVar(v, "state-dir", usualStateDir(), "the deployer's state directory")
	_ = c.MarkFlagDirname("state-dir")
}

func traceFlag(c *cobra.Command, v *string) {
	c.Flags().StringVar(v, "trace", "", "write what runs do, and when, to this file, for ui.perfetto.dev or chrome://tracing")
	_ = c.MarkFlagFilename("trace")
}

// usualStateDir is the unit's where that is, so that a person on the box need not name it.
func usualStateDir() string {
	if fi, err := os.Stat(unitStateDir); err == nil && fi.IsDir() {
		return unitStateDir
	}
	return defaultStateDir
}
