package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"bellhop/internal/nixos"
)

// nixFlags say what the configurations of NixOS hosts may do.
type nixFlags struct {
	ifd, keyCommand bool
}

func (f *nixFlags) flags(c *cobra.Command) {
	c.Flags().BoolVar(&f.ifd, "nix-ifd", false, "let the evaluation of a NixOS system build what it then reads (import from derivation)")
	c.Flags().BoolVar(&f.keyCommand, "allow-key-command", false, "run the keyCommand of deployment.keys, with the rights of this process")
}

// doctorNix tells how the configurations of NixOS hosts are evaluated here; nothing where none ever was.
func doctorNix(ctx context.Context, stateDir string) (all []symptom) {
	for _, l := range nixos.Examine(ctx, filepath.Join(stateDir, "nix")) {
		s := symptom{what: l.What, note: l.Found, err: l.Err}
		if l.Risk != "" {
			s.warn = hint(errors.New(l.Risk), "%s", l.Advice)
		}
		all = append(all, s)
	}
	return all
}
