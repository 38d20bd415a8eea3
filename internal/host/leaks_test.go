package host_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/machine"
)

const leaked = "rotated-value-of-the-token"

// A leaky systemd quotes the value of a key in its errors: of jobs when it fails them, and of each reload
// after a job that failed.
type leaky struct {
	*box
	failJobs, failed bool
}

func (s *leaky) Job(ctx context.Context, verb string, names []string) map[string]error {
	if s.failJobs && verb != "stop" {
		s.failed = true
		errs := map[string]error{}
		for _, n := range names {
			errs[n] = errors.New("it says " + leaked)
		}
		return errs
	}
	return s.box.Job(ctx, verb, names)
}

func (s *leaky) Reload(ctx context.Context) error {
	if s.failed {
		return errors.New("it says " + leaked)
	}
	return s.box.Reload(ctx)
}

func leakingLoad(text string) *load {
	l := bot(text)
	l.keys["token"] = leaked
	return l
}

// What can't be put back is told without the value of a key that came with the run, and that is gone
// from the host by then.
func TestWayBackTellsNoKeys(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	systemd := &leaky{box: b, failJobs: true}
	b.m.Systemd = systemd
	l := leakingLoad("two").service("new.service", "[Service]\n[Install]\nWantedBy=multi-user.target\n")
	got := b.deploy(l, bundle.OutcomeFailed)
	if !strings.Contains(got.res.Error, "and undoing it: it says ‹key token›") {
		t.Errorf("error %q, want what systemd said, without the key", got.res.Error)
	}
	b.holdsNoKey()
}

// Warnings quote errors of programs.
func TestWarningsTellNoKeys(t *testing.T) {
	b := newBox(t)
	b.deploy(leakingLoad("one"), bundle.OutcomeDone)
	b.reboot()
	b.m.Systemd = &leaky{box: b, failJobs: true}
	l := leakingLoad("one")
	got, err := b.talk(keysOffer(l), l)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(got.res.Warnings, "\n"); !strings.Contains(all, "it says ‹key token›") {
		t.Errorf("warnings %q, want what systemd said, without the key", got.res.Warnings)
	}
	b.holdsNoKey()
}

// holdsNoKey says that nothing that the host keeps of its runs holds the value.
func (b *box) holdsNoKey() {
	b.t.Helper()
	for name, text := range b.all() {
		if strings.Contains(name, "/runs/") && strings.Contains(text, leaked) {
			b.t.Errorf("%s holds the value of a key", name)
		}
	}
	runs := b.path(bundle.StateDir + "/runs")
	entries, err := os.ReadDir(runs)
	if err != nil || len(entries) == 0 {
		b.t.Fatalf("no runs: %v", err)
	}
	for _, e := range entries {
		p, err := os.ReadFile(runs + "/" + e.Name() + "/result")
		if err != nil || strings.Contains(string(p), leaked) {
			b.t.Errorf("the result of %s: %v, %s", e.Name(), err, p)
		}
	}
}

// leakyDocker fails each command, and quotes the value of a key.
type leakyDocker struct{}

func (leakyDocker) Run(context.Context, machine.Program) (machine.Output, error) {
	return machine.Output{Exit: 1, Stderr: "it says " + leaked}, nil
}

// A stack that leaves takes its keys along before its containers are asked to go.
func TestStackThatLeavesTellsNoKeys(t *testing.T) {
	b := newBox(t)
	b.deploy(leakingLoad("one"), bundle.OutcomeDone)
	b.m.Programs = leakyDocker{}
	warnings := host.TidyStack(b.m, "wiki", func() { os.Remove(b.path("/run/keys/token")) })
	all := strings.Join(warnings, "\n")
	if strings.Contains(all, leaked) || !strings.Contains(all, "it says ‹key token›") {
		t.Errorf("warnings %q, want what docker said, without the key", warnings)
	}
}
