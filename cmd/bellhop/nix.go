package main

import (
	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/internal/nixhosts"
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

// nix is the Nix of this machine, with its files below dir; loader has systems evaluated by it.
func (f *nixFlags) nix(dir string, loader *fleet.Loader) *nixos.Nix {
	nix := &nixos.Nix{Dir: dir, ImportFromDerivation: f.ifd}
	loader.Systems = (&nixhosts.Hosts{Nix: nix, KeyCommands: f.keyCommand}).Systems
	return nix
}
