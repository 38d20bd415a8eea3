package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/newrepo"
	"bellhop/internal/nixfleet"
	"bellhop/internal/nixos"
)

// A fleet that another tool deployed becomes a config repo.

func importCmd(e *Env) *cobra.Command {
	return group(groupRepo, "import", "Start a config repo from that of NixOps or Colmena", importKindCmd(e, nixfleet.NixOps), importKindCmd(e, nixfleet.Colmena))
}

func importKindCmd(e *Env, kind nixfleet.Kind) *cobra.Command {
	var o initOptions
	verb := strings.ToLower(kind.Name)
	c := &cobra.Command{
		Use: verb + " [DIR]", Short: "Read the hosts of " + kind.Name + " and write bellhop.yaml", Args: cobra.MaximumNArgs(1),
		Long: fmt.Sprintf(`Evaluate %s in DIR, or %s of its flake, with the Nix and the nixpkgs
of this machine, and write bellhop.yaml beside it: hosts, addresses, users and tags. The keys of hosts
are those that your known_hosts has. For each of deployment.keys it prints the command that seals it; no
value is read. Files that exist are left as they are, and bellhop.yaml must not be there yet.`, strings.Join(kind.Files, " or "), kind.Attr),
		Example: "  bellhop import " + verb + " .",
		RunE: func(c *cobra.Command, args []string) error {
			o.dir = cmp.Or(first(args), ".")
			return runImport(e, c.Context(), kind, o)
		},
	}
	o.flags(c)
	return c
}

func runImport(e *Env, ctx context.Context, kind nixfleet.Kind, o initOptions) error {
	from := o.dir
	if info, err := os.Stat(from); err == nil && !info.IsDir() {
		o.dir = filepath.Dir(from)
	}
	path := filepath.Join(o.dir, fleetFile)
	if _, err := os.Lstat(path); err == nil {
		return hint(fmt.Errorf("%s is there already, and import overwrites nothing", path), "move it away, or add single hosts: bellhop host add NAME root@ADDRESS")
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	f, err := nixfleet.Read(ctx, &nixos.Nix{Dir: filepath.Join(cache, "bellhop")}, kind, from)
	if err != nil {
		for _, line := range nixfleet.Log(err) {
			fmt.Fprintf(e.Stderr, "  %s\n", line)
		}
		return hint(err, "%s", kind.Advice(err))
	}

	known := filepath.Join(e.Getenv("HOME"), ".ssh", "known_hosts")
	o.hosts = f.YAML(func(address string) string { return nixfleet.KnownKey(ctx, known, address) })
	o.network = cmp.Or(o.network, newrepo.Word(f.Description))
	if err := initRepo(e, o); err != nil {
		return err
	}
	fmt.Fprint(e.Stdout, f.Steps())
	return nil
}
