package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/link"
)

// keyStates is what key status prints as JSON.
type keyStates struct {
	V     int        `json:"v"`
	Hosts []hostKeys `json:"hosts"`
}

type hostKeys struct {
	Name       string   `json:"name"`
	BootID     *string  `json:"boot_id"`
	Generation *int64   `json:"generation"`
	Expected   int      `json:"expected"`
	Present    int      `json:"present"`
	Error      *string  `json:"error"`
	Keys       []keyRow `json:"keys"`
}

type keyRow struct {
	Name    string     `json:"name"`
	Present bool       `json:"present"`
	Since   *time.Time `json:"since"`
	Source  *string    `json:"source"` // pushed or sealed
	Unit    *string    `json:"unit"`   // state of NAME-key.service
}

func (e *Env) keyCmd() *cobra.Command {
	return group(groupSecrets, "key", "Keys as they stand on hosts", e.keyStatusCmd())
}

func (e *Env) keyStatusCmd() *cobra.Command {
	var r reach
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use: "status [HOST...]", Short: "Which keys are expected and present, asked of the hosts themselves",
		RunE: func(c *cobra.Command, args []string) error {
			ts, err := r.targets(selection(on, args))
			if err != nil {
				return err
			}
			return e.keyStatus(c.Context(), &r, ts, asJSON)
		},
	}
	r.flags(c)
	onFlag(c, &on)
	jsonFlag(c, &asJSON)
	c.ValidArgsFunction = completeHosts
	return c
}

// selection joins --on and host names given as arguments.
func selection(on string, args []string) string {
	for _, a := range args {
		if on != "" {
			on += ","
		}
		on += a
	}
	return on
}

func (e *Env) keyStatus(ctx context.Context, r *reach, ts []link.Target, asJSON bool) error {
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	out := keyStates{V: 1, Hosts: each(ctx, ts, 10, func(ctx context.Context, t link.Target) hostKeys {
		h, err := hello(ctx, pool, t)
		return describeKeys(t.Name, h, err)
	})}
	if asJSON {
		return e.writeJSON(out)
	}
	e.printKeys(out)
	return nil
}

func describeKeys(name string, h bundle.Hello, err error) hostKeys {
	k := hostKeys{Name: name, Keys: []keyRow{}}
	if err != nil {
		text := err.Error()
		k.Error = &text
		return k
	}
	k.BootID = some(h.BootID)
	if h.Record != nil {
		k.Generation = &h.Record.Generation
	}
	for _, s := range h.Keys {
		row := keyRow{Name: s.Name, Present: s.Present, Source: some(s.Source), Unit: some(s.Unit)}
		if s.Since > 0 {
			t := time.Unix(s.Since, 0).UTC()
			row.Since = &t
		}
		k.Expected++
		if s.Present {
			k.Present++
		}
		k.Keys = append(k.Keys, row)
	}
	return k
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (e *Env) printKeys(out keyStates) {
	p, now := e.outPaint(), time.Now()
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "HOST", "KEY", "STATE", "SINCE", "SOURCE", "UNIT")
	for _, h := range out.Hosts {
		if h.Error != nil {
			t.painted(func(col int, c string) string {
				if col == 2 {
					return p.red(c)
				}
				return c
			}, h.Name, "–", *h.Error)
			continue
		}
		if len(h.Keys) == 0 {
			t.row(h.Name, "–", "no keys")
		}
		for _, k := range h.Keys {
			state := "missing"
			if k.Present {
				state = "present"
			}
			t.painted(func(col int, c string) string {
				if col == 2 && k.Present {
					return p.green(c)
				} else if col == 2 {
					return p.red(c)
				}
				return c
			}, h.Name, k.Name, state, agoOr(now, k.Since), or(k.Source, "–"), or(k.Unit, "–"))
		}
	}
	t.write(e.Stdout)
	for _, h := range out.Hosts {
		if h.BootID != nil {
			fmt.Fprintf(e.Stdout, "%s\n", p.dim(h.Name+" boot "+*h.BootID))
		}
	}
}
