package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/notify"
	"bellhop/server"
)

// Messages: who is told what came of a deploy, as notify: of bellhop.yaml says.

func notifyCmd(e *Env) *cobra.Command {
	return group(groupServer, "notify", "Test where messages are sent to", notifyTestCmd(e))
}

func notifyTestCmd(e *Env) *cobra.Command {
	var f deployerFlags
	c := &cobra.Command{
		Use: "test NAME", Short: "Send a test message to one target of notify: in bellhop.yaml", Args: cobra.ExactArgs(1),
		Long: `Send a test message to one target of notify: in bellhop.yaml, as it is in the commit that is
deployed. The error of a target that refuses holds no piece of its URL.`,
		Example: "  bellhop notify test ops",
		RunE: func(c *cobra.Command, args []string) error {
			if err := testTarget(e, c.Context(), &f, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "%s took the message; look whether it arrived\n", args[0])
			return nil
		},
	}
	f.flags(c)
	return c
}

type notifyRequest struct {
	Name string `json:"name"`
}

// testTarget asks the server to send, or sends from here.
func testTarget(e *Env, ctx context.Context, f *deployerFlags, name string) error {
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return err
	}

	if client != nil {
		defer client.Close()
		_, err = server.Call[struct{}](ctx, client, "notify-test", notifyRequest{name}, nil)
		return fromSocket(err)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return explain(err)
	}
	defer h.Close()
	return h.testTarget(ctx, name)
}

// testTarget sends a test message to a target of the config that is deployed.
func (h *app) testTarget(ctx context.Context, name string) error {
	targets, network, err := h.notifyTargets(ctx)
	if err != nil {
		return err
	}

	i := slices.IndexFunc(targets, func(t notify.Target) bool { return t.Name == name })
	if i < 0 {
		return hint(fmt.Errorf("notify: of the deployed bellhop.yaml has no %s", name), "it has: %s", cmp.Or(namesOf(targets), "none; docs/notify.md shows how to add one"))
	}

	ctx, cancel := context.WithTimeout(ctx, notify.SendTime)
	defer cancel()
	if err := notify.Post(ctx, targets[i], notify.Test(network)); err != nil {
		return fmt.Errorf("send to %s: %w", name, err)
	}
	return nil
}

func namesOf(targets []notify.Target) string {
	var names []string
	for _, t := range targets {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// notifyTargets are the targets of the config that is deployed, and its network. An age file is opened when something
// is sent, and no sooner.
func (h *app) notifyTargets(ctx context.Context) ([]notify.Target, string, error) {
	f, tree, err := h.deployer.Config(ctx)
	if err != nil {
		return nil, "", err
	}

	var targets []notify.Target
	for _, n := range f.Notify {
		t := notify.Target{Name: n.Name, Wants: wanted(f, n.Hosts)}
		for _, event := range n.On {
			t.Events = append(t.Events, notify.Event(event))
		}

		t.Find = func() (string, error) {
			url, err := h.deployer.Loader.Open(tree, n.Source)
			if err != nil {
				return "", fmt.Errorf("open %s: %w", n.Source, err)
			}
			defer clear(url)
			return strings.TrimSpace(string(url)), nil
		}
		targets = append(targets, t)
	}
	return targets, f.Network, nil
}

// wanted says which hosts a target is told of. A host that left the repo is every target's.
func wanted(f *fleet.Fleet, expr string) func(string) bool {
	chosen, err := f.Select(expr)
	if err != nil || expr == "" {
		return nil
	}

	names := map[string]bool{}
	for _, h := range chosen {
		names[h.Name] = true
	}
	return func(host string) bool {
		_, known := f.Host(host)
		return names[host] || !known
	}
}

// messages sends what waits in the outbox until ctx ends. runURL is the address of a run's page.
func (s *serving) messages(ctx context.Context, log *slog.Logger, runURL func(run string) string) {
	h := s.app
	sender := notify.Sender{
		Outbox: h.history.Outgoing(), Log: log, RunURL: runURL,
		Targets: func(ctx context.Context) ([]notify.Target, string, error) {
			targets, network, err := h.notifyTargets(ctx)
			if errors.Is(err, deploy.ErrNoConfig) {
				err = nil // and nobody to tell
			}
			return targets, network, err
		},
	}
	sender.Run(ctx)
}

var _ notify.Outbox = (*history.Outgoing)(nil)
