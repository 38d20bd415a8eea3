package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/history"
	"bellhop/server"
)

// How a host leaves: out of the config where a person works on it, then out of the
// deployer's memory, and, if asked, off the host itself.

func hostRemoveCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var dir string
	var undo bool
	c := &cobra.Command{
		Use: "remove HOST...", Short: "Remove hosts from the config, then from the deployer", Args: cobra.MinimumNArgs(1),
		Long: `Remove hosts. In a config repo that names them, their lines are removed from bellhop.yaml, or their
files from hosts/. After the push the hosts are released: bellhop leaves them as they are. Run
again, where the config does not name them any more, the deployer forgets them. With --undo
everything that bellhop owns there is removed first, and the files that bellhop replaced when it
came are put back.`,
		Example: "  bellhop host remove oldbot          # in the config repo; commit and push\n  bellhop host remove oldbot --undo   # then: clean the host, and forget it",
		RunE: func(c *cobra.Command, args []string) error {
			if done, err := dropFromFile(e, dir, args, undo); done || err != nil {
				return err
			}
			if serverOf(c) != "" {
				return overSSH(e, c)
			}
			return hostRemoveAll(e, c.Context(), &f, args, undo)
		},
	}
	c.Annotations = map[string]string{hereFirst: "bellhop.yaml"}
	f.flags(c)
	dirFlag(c, &dir)
	c.Flags().BoolVar(&undo, "undo", false, "remove what bellhop owns there, and put back the files that it replaced")
	c.ValidArgsFunction = completeHosts
	return c
}

// dropFromFile removes hosts from the config in front of us, if they are there.
func dropFromFile(e *Env, dir string, args []string, undo bool) (done bool, err error) {
	at, err := configDir(dir)
	if err != nil {
		return false, nilUnless(dir != "", err)
	}

	known, err := knowFleet(at)
	if err != nil {
		return false, err
	}

	names, err := known.choose(args)
	if err != nil || len(names) == 0 {
		return false, err
	}

	for _, name := range names {
		host := known.Hosts[name]
		if err := known.drop(name); err != nil {
			return false, err
		}
		fmt.Fprintf(e.Stdout, "removed %s from %s\n", name, strings.Join(host.files(), " and "))
	}

	more := ""
	if undo {
		more = " --undo"
	}

	fmt.Fprintf(e.Stdout, "push that; then have the deployer forget it: bellhop host remove %s%s\n", shellLine(append([]string{}, names...)), more)
	return true, nil
}

// choose lists the hosts of the config that args name: all of them or none, since the deployer is
// asked for those that the config does not have.
func (k *knownFleet) choose(args []string) ([]string, error) {
	all := make([]inventory.Named, 0, len(k.Hosts))
	for _, name := range slices.Sorted(maps.Keys(k.Hosts)) {
		all = append(all, inventory.Named{Name: name, Tags: k.Hosts[name].tags()})
	}

	var names, unknown []string
	for _, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return nil, errEmptyHost
		}
		in, err := inventory.Choose(all, arg)
		if err != nil {
			unknown = append(unknown, arg)
		}
		for _, i := range in {
			names = append(names, all[i].Name)
		}
	}

	if len(names) > 0 && len(unknown) > 0 {
		return nil, fmt.Errorf("host remove: %s does not name %s", k.path, strings.Join(unknown, ", "))
	}

	slices.Sort(names)
	return slices.Compact(names), nil
}

func nilUnless(keep bool, err error) error {
	if keep {
		return err
	}
	return nil
}

type removeRequest struct {
	Host string `json:"host"`
	Undo bool   `json:"undo"`
}

// hostRemoveAll has the deployer forget hosts, one after another.
func hostRemoveAll(e *Env, ctx context.Context, f *deployerFlags, names []string, undo bool) error {
	for name := range strings.SplitSeq(strings.Join(names, ","), ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			return errEmptyHost
		}
		if err := hostRemove(e, ctx, f, removeRequest{name, undo}); err != nil {
			return err
		}
	}
	return nil
}

func hostRemove(e *Env, ctx context.Context, f *deployerFlags, req removeRequest) error {
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return err
	}

	var res *bundle.Result
	if client != nil {
		defer client.Close()
		res, err = server.Call[*bundle.Result](ctx, client, "host-remove", req, nil)
		err = fromSocket(err)
	} else {
		var h *app
		if h, err = f.openUndumpable(e); err != nil {
			return explain(err)
		}
		defer h.Close()
		res, err = h.removeHost(ctx, req)
	}

	if err != nil {
		return err
	}
	if res != nil {
		printUndone(e, req.Host, res)
	}
	if req.Undo {
		fmt.Fprintf(e.Stdout, "%s: %s\n", req.Host, undoLeaves)
	}

	fmt.Fprintf(e.Stdout, "%s is forgotten\n", req.Host)
	return nil
}

// undoLeaves is what an undo itself stands on: the login, the helper and its result.
const undoLeaves = "left for you to remove: the deployer's line in authorized_keys, the helper in /usr/local/libexec/bellhop, and " + bundle.StateDir

// printUndone tells what a person would look for on a host that was given back.
func printUndone(e *Env, host string, res *bundle.Result) {
	for i, line := range res.Restored {
		if i < len(res.Edits) && res.Edits[i] != "" {
			line += " (the edit is " + res.Edits[i] + ")"
		}
		fmt.Fprintf(e.Stdout, "%s: edited by hand since, and replaced: %s\n", host, line)
	}
	for _, line := range res.Kept {
		fmt.Fprintf(e.Stdout, "%s: %s stays\n", host, line)
	}
	for _, line := range res.Warnings {
		fmt.Fprintf(e.Stdout, "%s: %s\n", host, line)
	}
}

// removeHost forgets a host that left the repo, after giving it back if asked.
func (h *app) removeHost(ctx context.Context, req removeRequest) (*bundle.Result, error) {
	all := h.history.Hosts()
	host, ok := all[req.Host]
	switch {
	case !ok:
		return nil, fmt.Errorf("remove %s: no such host is remembered", req.Host)
	case host.State != history.Released:
		return nil, hint(fmt.Errorf("remove %s: the repo still names it", req.Host), "remove it from the config (bellhop host remove %s in the repo does) and push", req.Host)
	}

	res := &bundle.Result{}
	if req.Undo {
		var err error
		if res, err = h.deployer.GiveBack(ctx, req.Host); err != nil {
			return res, hint(fmt.Errorf("remove %s: %w", req.Host, err), "without --undo it is only forgotten")
		}
	}

	h.pool.Drop(req.Host)
	return res, h.history.Forget(ctx, req.Host)
}
