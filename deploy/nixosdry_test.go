package deploy_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/deploy/systems"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

const secondSystem = "/nix/store/1ajz40m7nklbncf2czaz0iinq4frg726-nixos-system-second"

// answering has hosts answer commands: the system is there, and its switch-to-configuration says something.
type answering struct {
	routes.Links
	says     string
	code     int
	asked    chan struct{} // not nil: it is told that dry-activate begins, which then goes on until it is ended
	mu       sync.Mutex
	commands []string
}

func (a *answering) Carry(ctx context.Context, t link.Target, cmd string, _ io.Reader, out, _ io.Writer) (int, error) {
	a.mu.Lock()
	a.commands = append(a.commands, cmd)
	a.mu.Unlock()
	if strings.Contains(cmd, "dry-activate") {
		if a.asked != nil {
			a.asked <- struct{}{}
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}
		io.WriteString(out, a.says)
		return a.code, nil
	}
	return 0, nil
}

// newDryWorld has a NixOS host that runs firstSystem, and is to have secondSystem.
func newDryWorld(t *testing.T) (*world, *answering) {
	w := newWorld(t, "plain")
	w.top = atOnce
	w.nixosHosts("nix")
	w.yaml["nix"] = strings.Replace(w.yaml["nix"], "nixos: .#nix", "nixos: { attr: nix, build_on: target }", 1)
	w.machines["nix"].AddSystem(secondSystem, lab.Toplevel{})
	path := firstSystem
	w.systemsOf(func(string) *fleet.HostSystem { return &fleet.HostSystem{Path: path} })
	a := &answering{Links: w.d.Links}
	w.d.Links = a
	w.commit("first")
	w.run(plan.Request{}, history.OutcomeDone)
	path = secondSystem
	w.commit("second")
	a.commands = nil
	return w, a
}

func (w *world) dryPlan(host string) (string, error) {
	w.t.Helper()
	p, err := w.d.Plan(w.t.Context(), plan.Request{DryActivate: host})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	w.must(w.d.WritePlan(w.t.Context(), &text, p))
	return text.String(), nil
}

func TestDryActivate(t *testing.T) {
	w, a := newDryWorld(t)
	a.says = "would restart the following units: \x1b[31mweb.service\n"
	text, err := w.dryPlan("nix")
	if err != nil || !strings.Contains(text, "dry-activate: would restart the following units: ") || strings.Contains(text, "\x1b") {
		t.Errorf("the plan is %v\n%s", err, text)
	}
	if n := len(a.commands); n != 2 || !strings.Contains(a.commands[1], secondSystem+"/bin/switch-to-configuration dry-activate") {
		t.Errorf("the host was asked to run %q", a.commands)
	}
	w.wantState("nix", history.Current, w.commits[0].Commit)

	a.says, a.code = "it is broken", 3
	if _, err := w.dryPlan("nix"); err == nil || !strings.Contains(err.Error(), "ended with code 3") || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("a program that fails: %v", err)
	}
}

// A host that takes long to say it keeps no run from planning, and is left as soon as one comes to it.
func TestDryActivateGivesWay(t *testing.T) {
	w, a := newDryWorld(t)
	a.asked = make(chan struct{})
	ended := make(chan error)
	go func() {
		_, err := w.d.Plan(t.Context(), plan.Request{DryActivate: "nix"})
		ended <- err
	}()

	<-a.asked
	w.run(plan.Request{}, history.OutcomeDone)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a run is at work there") {
		t.Errorf("the plan ends with %v, want that a run is at work", err)
	}
}

// A host is asked about the branch's head alone, and only where there is something to ask.
func TestDryActivateAsksForNothingElse(t *testing.T) {
	w, a := newDryWorld(t)
	if _, err := w.d.PlanOf(t.Context(), plan.Request{DryActivate: "nix"}, w.commits[0]); !errors.Is(err, systems.ErrHeadAlone) {
		t.Errorf("PlanOf another commit: %v", err)
	}
	for host, want := range map[string]string{"plain": "is no NixOS host", "nobody": "has no host nobody"} {
		if _, err := w.dryPlan(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s: %v, want %q", host, err, want)
		}
	}
	w.run(plan.Request{}, history.OutcomeDone)
	a.commands = nil
	if text, err := w.dryPlan("nix"); err != nil || strings.Contains(text, "dry-activate") {
		t.Errorf("of a host that has its system: %v\n%s", err, text)
	}
	if len(a.commands) > 0 {
		t.Errorf("hosts were asked to run %q", a.commands)
	}
}
