package main

import "github.com/spf13/cobra"

func stateDirFlag(c *cobra.Command, v *string) {
	c.Flags().StringVar(v, "state-dir", defaultStateDir, "where the deployer keeps its own")
	_ = c.MarkFlagDirname("state-dir")
}
