package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/server"
)

// How a host leaves: out of the config where a person works on it, then out of the
// deployer's memory, and, if asked, off the host itself.

func (e *Env) hostRemoveCmd() *cobra.Command {
	var f deployerFlags
	var dir string
	var undo bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Let a host go", Args: cobra.ExactArgs(1),
		Long: `Let a host go. In a config repo that names it, its lines leave bellhop.yaml, or its file leaves
hosts/; once that is pushed, the host is released and stands as it is. On the deployer, a
released host is then forgotten. With --undo everything that bellhop owns there leaves first,
and what stood in a place before bellhop came stands there again.`,
		RunE: func(c *cobra.Command, args []string) error {
			if done, err := e.dropFromFile(dir, args[0], undo); done || err != nil {
				return err
			}
			if serverOf(c) != "" {
				return e.overSSH(c)
			}
			return e.hostRemove(c.Context(), &f, removeRequest{args[0], undo})
		},
	}
	c.Annotations = map[string]string{hereFirst: "bellhop.yaml"}
	f.flags(c)
	dirFlag(c, &dir)
	c.Flags().BoolVar(&undo, "undo", false, "take away what bellhop owns there, and put back what stood there before")
	c.ValidArgsFunction = completeHosts
	return c
}

// dropFromFile takes a host out of the config in front of us, if it is there.
func (e *Env) dropFromFile(dir, name string, undo bool) (done bool, err error) {
	at, err := configDir(dir)
	if err != nil {
		return false, nilUnless(dir != "", err)
	}
	known, err := knowFleet(at)
	if err != nil {
		return false, err
	}
	host, ok := known.Hosts[name]
	if !ok {
		return false, nil
	}
	if err := known.drop(name); err != nil {
		return false, err
	}
	more := ""
	if undo {
		more = " --undo"
	}
	fmt.Fprintf(e.Stdout, "took %s out of %s; push that, then, for the deployer to forget it: bellhop host remove %s%s\n", name, strings.Join(host.files(), " and "), name, more)
	return true, nil
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

func (e *Env) hostRemove(ctx context.Context, f *deployerFlags, req removeRequest) error {
	client, err := e.dial(ctx, f)
	if err != nil {
		return err
	}
	var res *bundle.Result
	if client != nil {
		defer client.Close()
		res, err = server.Call[*bundle.Result](ctx, client, "host-remove", req, nil)
		err = fromSocket(err)
	} else {
		var h *house
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
		e.printUndone(req.Host, res)
	}
	if req.Undo {
		fmt.Fprintf(e.Stdout, "%s: %s\n", req.Host, undoLeaves)
	}
	fmt.Fprintf(e.Stdout, "%s is forgotten\n", req.Host)
	return nil
}

// undoLeaves is what an undo itself stands on: the login, the helper and its result.
const undoLeaves = "yours to take away: the deployer's line in authorized_keys, the helper in /usr/local/libexec/bellhop, and " + bundle.StateDir

// printUndone tells what a person would look for on a host that was given back.
func (e *Env) printUndone(host string, res *bundle.Result) {
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
func (h *house) removeHost(ctx context.Context, req removeRequest) (*bundle.Result, error) {
	all := h.history.Hosts()
	host, ok := all[req.Host]
	switch {
	case !ok:
		return nil, fmt.Errorf("remove %s: no such host is remembered", req.Host)
	case host.State != history.Released:
		return nil, hint(fmt.Errorf("remove %s: the repo still names it", req.Host), "take it out of the repo (bellhop host remove %s does, run there) and push", req.Host)
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
