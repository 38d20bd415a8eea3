package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/deploy/drift"
	"bellhop/internal/bundle"
	"bellhop/internal/durable"
	"bellhop/internal/plain"
	"bellhop/server"
)

// host pull: an edit that somebody made on a host, as a change to commit.

type pullOptions struct {
	deployerFlags
	dir         string
	write, json bool
}

type pullRequest struct {
	Host string `json:"host"`
	Path string `json:"path"`
}

func hostPullCmd(e *Env) *cobra.Command {
	var o pullOptions
	c := &cobra.Command{
		Use: "pull HOST PATH", Short: "Show an edit that was made on a host as a diff to commit", Args: cobra.ExactArgs(2),
		Long: `Show how a file of the repo must change for the host to keep what somebody edited there by hand, as a
patch for git apply in the folder of bellhop.yaml. PATH is the file on the host. With --write the file in
the work tree here is written, if it is what was deployed.

A file that a template made can't be mapped back: the diff is then one of the rendered text, which git apply
does not take, and the exit code is 1. A file that a key went into is refused.`,
		Example: "  bellhop host pull chrysalis /etc/motd | git apply\n  bellhop host pull chrysalis /etc/motd --write --server ssh://box",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := pullFrom(e, c, &o, pullRequest{args[0], args[1]})
			if p == nil || err != nil {
				return err
			}
			return o.show(e, p)
		},
	}
	c.Annotations = map[string]string{hereFirst: "--write"}
	o.flags(c)
	dirFlag(c, &o.dir)
	c.Flags().BoolVar(&o.write, "write", false, "write the file in the work tree here")
	jsonFlag(c, &o.json)
	c.ValidArgsFunction = completeHosts
	return c
}

// pullFrom asks for the edit where the deployer is. It is nil where another machine has answered already.
func pullFrom(e *Env, c *cobra.Command, o *pullOptions, req pullRequest) (*drift.Pulled, error) {
	switch {
	case serverOf(c) == "":
		return askPull(e, c.Context(), &o.deployerFlags, req)
	case o.write:
		return pullOverSSH(e, c)
	}
	return nil, overSSH(e, c)
}

// pullOverSSH asks the other machine for the edit as JSON, since the work tree is here.
func pullOverSSH(e *Env, c *cobra.Command) (*drift.Pulled, error) {
	var out bytes.Buffer
	there := *e
	there.Stdout = &out
	there.Args = slices.DeleteFunc(slices.Clone(e.Args), func(arg string) bool { return strings.HasPrefix(arg, "--write") || strings.HasPrefix(arg, "--json") })
	there.Args = slices.Insert(there.Args, verbAt(c, there.Args), "--json")
	if err := overSSH(&there, c); err != nil {
		return nil, err
	}

	var p drift.Pulled
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", serverOf(c), err)
	}
	return &p, nil
}

// askPull asks the server, or the host from here.
func askPull(e *Env, ctx context.Context, f *deployerFlags, req pullRequest) (*drift.Pulled, error) {
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
		p, err := server.Call[*drift.Pulled](ctx, client, "host-pull", req, nil)
		return p, fromSocket(err)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return nil, explain(err)
	}
	defer h.Close()
	p, err := h.deployer.Looker().Pull(ctx, req.Host, req.Path)
	return p, explain(err)
}

func (o *pullOptions) show(e *Env, p *drift.Pulled) error {
	if o.json && !o.write {
		return e.writeJSON(struct {
			V int `json:"v"`
			*drift.Pulled
		}{1, p})
	}

	switch {
	case p.Same:
		fmt.Fprintf(e.Stderr, "%s has %s as it was deployed\n", p.Host, p.Path)
		return nil
	case p.Template:
		fmt.Fprint(e.Stdout, p.Diff)
		return hint(fmt.Errorf("%s is made by the template %s, and which of its lines the edit belongs to can't be told", p.Path, p.Source),
			"edit the template by the diff above, which is one of the text that it made")
	case o.write:
		return writePulled(e, o.dir, p)
	case p.Patch == "":
		return hint(fmt.Errorf("%s is no text, so there is no diff", p.Path), "bellhop host pull %s %s --write", p.Host, p.Path)
	}
	_, err := fmt.Fprint(rawUnlessShown(e.Stdout), p.Patch)
	return err
}

// isServiceFile says whether a deployer, which may be another machine, names a file that a service can have. It is no link,
// and in no folder that is one.
func isServiceFile(root *os.Root, source string) bool {
	parts := strings.Split(source, "/")
	isPlain := filepath.IsLocal(source) && path.Clean(source) == source
	isOfService := len(parts) > 2 && parts[0] == "services"
	if !isPlain || !isOfService || slices.Contains(parts, ".git") {
		return false
	}

	for i := range parts {
		info, err := root.Lstat(strings.Join(parts[:i+1], "/"))
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
		if err != nil || info.Mode().Type()&fs.ModeSymlink != 0 {
			return false
		}
	}
	return true
}

// writePulled writes the file in the work tree, unless it holds something else than what was deployed.
func writePulled(e *Env, dir string, p *drift.Pulled) error {
	at, err := configDir(dir)
	if err != nil {
		return err
	}
	// A link in the work tree must not lead out of it.
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	if !isServiceFile(root, p.Source) {
		return fmt.Errorf("write %s: not a file of a service in this config", plain.Line(p.Source, plain.MaxLine))
	}

	now, err := root.ReadFile(p.Source)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isDeployed := err == nil && (bundle.DigestBytes(now) == p.Was || bytes.Equal(now, p.Content))
	if !isDeployed {
		return hint(fmt.Errorf("write %s: the work tree does not have it as it was deployed", p.Source), "bellhop host pull %s %s | git apply -3", p.Host, p.Path)
	}

	info, err := root.Stat(p.Source)
	if err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(at, p.Source), p.Content, info.Mode().Perm()); err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "wrote %s: commit and push it\n", p.Source)
	return nil
}
