package main

import (
	"time"

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

// nixPatience is how long a server's run waits for NixOS systems before it goes on with the other hosts.
const nixPatience = 30 * time.Second

// hosts evaluates and builds with the Nix of this machine, with its files below dir; loader has systems made by it.
func (f *nixFlags) hosts(dir string, loader *fleet.Loader) *nixhosts.Hosts {
	hosts := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: dir, ImportFromDerivation: f.ifd}, KeyCommands: f.keyCommand}
	loader.Systems = hosts.Systems
	return hosts
}
