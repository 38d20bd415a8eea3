package main

import (
	"slices"

	"github.com/spf13/cobra"

	"bellhop/secrets"
)

// openers are the verbs that open secrets or private keys in this process.
var openers = []string{"secret", "key", "plan", "deploy", "serve", "rollback", "resume", "reboot", "restart", "host", "init", "paste", "doctor"}

// protect keeps the memory of a verb that opens secrets out of core files, away from debuggers of
// the same user and, for the short-lived verbs of one person, out of swap. A server's swap is its
// unit's business (MemorySwapMax=0): its locked memory would never shrink.
func protect(c *cobra.Command) error {
	verb := c
	for verb.HasParent() && verb.Parent().HasParent() {
		verb = verb.Parent()
	}

	if !slices.Contains(openers, verb.Name()) {
		return nil
	}

	if err := secrets.Undumpable(); err != nil {
		return err
	}
	if verb.Name() == "secret" {
		secrets.Unswappable()
	}

	return nil
}
