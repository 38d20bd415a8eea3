package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// planOffline shows what each host would hold, compared with nothing.
func (e *Env) planOffline(dir, on string, asJSON bool) error {
	at, err := configDir(dir)
	if err != nil {
		return err
	}
	f, err := (&fleet.Loader{}).Load(os.DirFS(at))
	if err != nil {
		return err
	}
	hosts, err := f.Select(on)
	if err != nil {
		return fmt.Errorf("choose hosts: %w", err)
	}
	out := offlinePlan{V: 1, Hosts: []offlineHost{}}
	var problems fleet.Problems
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
	var offline, asJSON bool
	var on string
	c := &cobra.Command{
		Use: "plan [DIR]", Short: "Show what a deploy would change", GroupID: groupFleet, Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return e.planOffline(first(args), on, asJSON)
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "show what each host would hold, from DIR alone")
	onFlag(c, &on)
	jsonFlag(c, &asJSON)
	return c
}
