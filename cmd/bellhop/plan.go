package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/server"
)

// planOffline shows what each host would hold, compared with nothing.
func (e *Env) planOffline(ctx context.Context, dir, on string, asJSON bool) error {
	at, err := configDir(dir)
	if err != nil {
		return err
	}
	tree, problems, err := readWorkTree(ctx, at)
	if err != nil {
		return err
	}
	f, err := (&fleet.Loader{}).Load(ctx, tree)
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
		e.printOffline(out)
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

func (e *Env) printOffline(out offlinePlan) {
	p := e.outPaint()
	things := 0
	for _, h := range out.Hosts {
		things += len(h.Changes)
		fmt.Fprintln(e.Stdout, p.bold(h.Name))
		if len(h.Changes) == 0 {
			fmt.Fprintln(e.Stdout, "  nothing")
		}
		for _, c := range h.Changes {
			fmt.Fprintf(e.Stdout, "  %s %-7s %s\n", p.green("+"), c.Kind, c.Name)
		}
		fmt.Fprintln(e.Stdout)
	}
	fmt.Fprintf(e.Stdout, "%s, %s; compared with nothing\n", count(len(out.Hosts), "host"), count(things, "thing"))
}

func (e *Env) planCmd() *cobra.Command {
	var f deployerFlags
	var offline, asJSON, exitCode bool
	var req deploy.Request
	c := &cobra.Command{
		Use: "plan [DIR]", Short: "Show what a deploy would change", GroupID: groupFleet, Args: cobra.MaximumNArgs(1),
		Long: `Show what a deploy would change on each host: files as a unified diff, keys as a word, and
one sentence at the end. No host is touched. --offline DIR shows what each host would hold,
compared with nothing, from the tree alone.`,
		RunE: func(c *cobra.Command, args []string) error {
			if offline {
				return e.planOffline(c.Context(), first(args), req.On, asJSON)
			}
			if len(args) > 0 {
				return hint(errors.New("a folder is only for --offline"), "of one host, plan tells with: bellhop plan --on %s", args[0])
			}
			if serverOf(c) != "" {
				return e.overSSH(c)
			}
			req.By = e.userName()
			return e.plan(c.Context(), &f, req, asJSON, exitCode)
		},
	}
	c.Annotations = map[string]string{hereFirst: "--offline"}
	f.flags(c)
	c.Flags().BoolVar(&offline, "offline", false, "show what each host would hold, from DIR alone")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit 2 when something would change")
	c.Flags().BoolVar(&req.All, "all", false, "as deploy --all would")
	c.Flags().BoolVar(&req.Retry, "retry", false, "as deploy --retry would")
	c.Flags().BoolVar(&req.AllowPrune, "allow-prune", false, "as deploy --allow-prune would")
	onFlag(c, &req.On)
	jsonFlag(c, &asJSON)
	return c
}

func (e *Env) plan(ctx context.Context, f *deployerFlags, req deploy.Request, asJSON, exitCode bool) error {
	a, err := e.askPlan(ctx, f, req)
	if err != nil {
		return err
	}
	if asJSON {
		err = e.writeJSON(a.JSON)
	} else {
		_, err = io.WriteString(&diffPaint{w: e.Stdout, p: e.outPaint()}, a.Text)
	}
	if err == nil && exitCode && a.Changes {
		return exit(exitChanges)
	}
	return err
}

// askPlan has the plan made by the server, or here.
func (e *Env) askPlan(ctx context.Context, f *deployerFlags, req deploy.Request) (a planAnswer, err error) {
	client, err := e.dial(f)
	if err != nil {
		return a, err
	}
	if client != nil {
		defer client.Close()
		a, err = server.Call[planAnswer](ctx, client, "plan", req, nil)
		return a, fromSocket(err)
	}
	h, err := f.openUndumpable(e)
	if err != nil {
		return a, explain(err)
	}
	defer h.Close()
	return makePlan(ctx, h.deployer, req)
}

// makePlan is a plan in both of its forms.
func makePlan(ctx context.Context, d *deploy.Deployer, req deploy.Request) (a planAnswer, err error) {
	p, err := d.Plan(ctx, req)
	if err != nil {
		return a, whole(err)
	}
	var text strings.Builder
	if err := d.WritePlan(ctx, &text, p); err != nil {
		return a, err
	}
	a.Text, a.Changes = text.String(), p.HasChanges()
	a.JSON, err = json.Marshal(p.JSON())
	return a, err
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
