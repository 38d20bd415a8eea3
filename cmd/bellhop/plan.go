package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
	"bellhop/internal/worktree"
	"bellhop/server"
)

// planOffline shows what each host would hold, compared with nothing.
func planOffline(e *Env, ctx context.Context, load *loadFlags, dir, on string, asJSON bool) error {
	at, err := configDir(dir)
	if err != nil {
		return err
	}

	tree, problems, err := readWorkTree(ctx, at)
	if err != nil {
		return err
	}

	loader := load.loader()
	defer loader.Close()
	defer context.AfterFunc(ctx, func() { loader.Close() })()

	f, err := loader.Load(ctx, tree)
	if err != nil {
		return err
	}

	hosts, err := f.Select(on)
	if err != nil {
		return fmt.Errorf("choose hosts: %w", err)
	}

	out := offlinePlan{V: 1, Hosts: []offlineHost{}}
	for _, h := range hosts {
		b, err := f.Bundle(h.Name)
		if err != nil {
			ps, ok := err.(fleet.Problems)
			if !ok {
				return err
			}
			problems = append(problems, ps...)
			continue
		}
		out.Hosts = append(out.Hosts, describeBundle(h.Name, b.Manifest))
	}

	if asJSON {
		err = e.writeJSON(out)
	} else {
		printOffline(e, out)
	}

	if err == nil && len(problems) > 0 {
		return problems
	}

	return err
}

// An offlinePlan has the shape of a plan's JSON, without a commit.
type offlinePlan struct {
	V      int           `json:"v"`
	Commit *string       `json:"commit"`
	Hosts  []offlineHost `json:"hosts"`
}

type offlineHost struct {
	Name    string          `json:"name"`
	Changes []bundle.Change `json:"changes"`
	Units   offlineUnits    `json:"units"`
}

type offlineUnits struct {
	Start   []string `json:"start"`
	Stop    []string `json:"stop"`
	Restart []string `json:"restart"`
	Reload  []string `json:"reload"`
}

func describeBundle(host string, m bundle.Manifest) offlineHost {
	h := offlineHost{Name: host, Changes: []bundle.Change{}, Units: offlineUnits{[]string{}, []string{}, []string{}, []string{}}}
	h.Changes = append(h.Changes, bundle.Diff(bundle.Manifest{}, m)...)
	for _, u := range m.Units {
		if u.Start && !u.KeyUnit {
			h.Units.Start = append(h.Units.Start, u.Name)
		}
	}

	return h
}

func printOffline(e *Env, out offlinePlan) {
	p := e.outPaint()
	things := 0
	for _, h := range out.Hosts {
		things += len(h.Changes)
		fmt.Fprintln(e.Stdout, p.bold(h.Name))
		if len(h.Changes) == 0 {
			fmt.Fprintln(e.Stdout, "  nothing")
		}
		for _, c := range h.Changes {
			name := c.Name
			if c.Kind == bundle.KindService {
				name = bundle.HowJudged(c.Name)
			}
			fmt.Fprintf(e.Stdout, "  %s %-7s %s\n", p.green("+"), c.Kind, name)
		}

		fmt.Fprintln(e.Stdout)
	}

	fmt.Fprintf(e.Stdout, "%s, %s; compared with nothing\n", count(len(out.Hosts), "host"), count(things, "thing"))
}

func planCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var p planFlags
	c := &cobra.Command{
		Use: "plan [HOST…]", Short: "Show what a deploy would change", GroupID: groupFleet, Args: cobra.ArbitraryArgs,
		Long: `Show what a deploy would change on each host: files as a unified diff, keys as "changed", the plan's
digest, and one sentence at the end. Without --dry-activate no host is contacted, and nothing is stored.

--ref plans a branch, a tag or a commit of the repo; --branch a branch. --tree DIR plans a work
tree on this machine: what git would commit of it. All are compared with what is deployed.
--offline DIR shows what each host would hold, compared with nothing, from the tree alone.`,
		Example:           "  bellhop plan web1 @bots\n  bellhop plan --ref feature/new-bot\n  bellhop plan --tree . --server ssh://box",
		ValidArgsFunction: completeHosts,
		RunE:              func(c *cobra.Command, args []string) error { return planVerb(e, c, args, &f, &p) },
	}

	c.Annotations = map[string]string{hereFirst: "--offline"}
	f.flags(c)
	c.Flags().BoolVar(&p.offline, "offline", false, "show what each host would hold, from DIR alone")
	c.Flags().StringVar(&p.ref, "ref", "", "plan this branch, tag or commit of the repo")
	c.Flags().StringVar(&p.tree, "tree", "", "plan what git would commit of the work tree in this folder")
	c.Flags().BoolVar(&p.allFiles, "all-files", false, "with --tree, of a folder in no git work tree: take all files in it")
	_ = c.MarkFlagDirname("tree")
	c.Flags().StringVar(&p.req.DryActivate, "dry-activate", "", "copy its NixOS system to this `HOST`, and ask what going over to it would do")
	c.MarkFlagsMutuallyExclusive("ref", "tree", "branch", "offline", "dry-activate")
	c.Flags().BoolVar(&p.exitCode, "exit-code", false, "exit 2 when something would change")
	c.Flags().BoolVar(&p.req.All, "all", false, "as deploy --all would")
	c.Flags().BoolVar(&p.req.Retry, "retry", false, "as deploy --retry would")
	c.Flags().BoolVar(&p.req.AllowPrune, "allow-prune", false, "as deploy --allow-prune would")
	c.Flags().BoolVar(&p.req.AllowNewVolumes, "allow-new-volumes", false, "as deploy --allow-new-volumes would")
	onFlag(c, &p.req.On)
	jsonFlag(c, &p.json)
	return c
}

// planFlags are what plan can be told.
type planFlags struct {
	req                               plan.Request
	ref, tree                         string
	offline, allFiles, exitCode, json bool
}

func planVerb(e *Env, c *cobra.Command, args []string, f *deployerFlags, p *planFlags) error {
	if p.offline {
		if len(args) > 1 {
			return errors.New("plan --offline takes one folder; choose hosts by --on")
		}
		return planOffline(e, c.Context(), &f.load, first(args), p.req.On, p.json)
	}

	if p.allFiles && p.tree == "" {
		return errors.New("--all-files is only for --tree")
	}

	var tree []byte
	if p.tree != "" {
		var err error
		if tree, err = readPlanTree(e, c.Context(), f, p); err != nil {
			return err
		}
	}

	if serverOf(c) != "" {
		return planOverSSH(e, c, tree)
	}

	on, err := chosen(c, p.req.On, args)
	if err != nil {
		return err
	}

	in := planRequest{Request: p.req, Ref: p.ref, Tree: p.tree != ""}
	in.On = on
	in.By = e.userName()
	if c.Flags().Changed("branch") {
		in.Branch = f.branch
	}

	if c.Flags().Changed("path") {
		in.Path = f.path
	}

	return showPlan(e, c.Context(), f, in, tree, p)
}

func showPlan(e *Env, ctx context.Context, f *deployerFlags, in planRequest, tree []byte, p *planFlags) error {
	a, err := askPlan(e, ctx, f, in, tree)
	if err != nil {
		return err
	}

	if p.json {
		err = e.writeJSON(a.JSON)
	} else {
		_, err = io.WriteString(&diffPaint{w: e.Stdout, p: e.outPaint()}, a.Text)
	}

	if err == nil && p.exitCode && a.Changes {
		return exit(exitChanges)
	}

	return err
}

// A planRequest asks for a plan: of the branch's head, or of what one of its fields names. Path
// is only compared with the server's own.
type planRequest struct {
	plan.Request
	Ref    string `json:"ref,omitempty"`
	Branch string `json:"branch,omitempty"`
	Path   string `json:"path,omitempty"`
	Tree   bool   `json:"tree,omitempty"` // a packed tree follows
}

// askPlan has the plan made by the server, or here.
func askPlan(e *Env, ctx context.Context, f *deployerFlags, in planRequest, tree []byte) (a planAnswer, err error) {
	client, err := dialFor(e, f, "branch", "path")
	if err != nil {
		return a, err
	}

	if client != nil {
		defer client.Close()
		// An older server knows "plan" alone, and would plan its branch whatever is asked for.
		a, err = server.CallLarge[planAnswer](ctx, client, "plan-of", in, bytes.NewReader(tree), nil)
		return a, fromSocket(err)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return a, explain(err)
	}

	defer h.Close()
	in.Branch, in.Path = "", "" // they are those that the repo was opened with
	return h.makePlan(ctx, in, tree)
}

// makePlan is a plan in both of its forms.
func (h *app) makePlan(ctx context.Context, in planRequest, tree []byte) (a planAnswer, err error) {
	p, err := h.planOf(ctx, in, tree)
	if err != nil {
		return a, whole(err)
	}

	var text strings.Builder
	if err := h.deployer.WritePlan(ctx, &text, p); err != nil {
		return a, err
	}

	a.Text, a.Changes = text.String(), p.HasChanges()
	a.JSON, err = json.Marshal(p.JSON())
	return a, err
}

func (h *app) planOf(ctx context.Context, in planRequest, packed []byte) (*plan.Plan, error) {
	own := h.branch
	switch {
	case in.Path != "" && path.Clean(in.Path) != path.Clean(h.path):
		return nil, fmt.Errorf("the server deploys the folder %s of the repo, not %s", h.path, plain.Line(in.Path, 200))
	case in.Tree:
		tree, err := worktree.Unpack(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		return h.deployer.PlanOf(ctx, in.Request, commits.Snapshot{Tree: tree, Subject: "a work tree", Time: time.Now()})
	case in.Ref == "" && (in.Branch == "" || in.Branch == own):
		return h.deployer.Plan(ctx, in.Request)
	}

	ref := in.Ref
	if ref == "" {
		ref = "refs/heads/" + in.Branch
	}

	snap, err := h.repo.Ref(ctx, ref)
	if err != nil {
		return nil, err
	}

	return h.deployer.PlanOf(ctx, in.Request, snap)
}

// A diffPaint colours a plan line by line, as git does.
type diffPaint struct {
	w    io.Writer
	p    paint
	part []byte
}

func (d *diffPaint) Write(b []byte) (int, error) {
	if !d.p {
		return d.w.Write(b)
	}

	d.part = append(d.part, b...)
	for {
		i := bytes.IndexByte(d.part, '\n')
		if i < 0 {
			return len(b), nil
		}
		if _, err := fmt.Fprintln(d.w, d.line(string(d.part[:i]))); err != nil {
			return 0, err
		}
		d.part = d.part[i+1:]
	}
}

func (d *diffPaint) line(s string) string {
	switch {
	case s != "" && s[0] != ' ':
		return d.p.bold(s)
	case strings.HasPrefix(s, "    @@"):
		return d.p.cyan(s)
	case strings.HasPrefix(s, "    +++"), strings.HasPrefix(s, "    ---"):
		return d.p.dim(s)
	case strings.HasPrefix(s, "    +"), strings.HasPrefix(s, "  + "):
		return d.p.green(s)
	case strings.HasPrefix(s, "    -"), strings.HasPrefix(s, "  - "):
		return d.p.red(s)
	case strings.HasPrefix(s, "  ~ "):
		return d.p.yellow(s)
	}

	return s
}
