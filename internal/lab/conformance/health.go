package conformance

import (
	"context"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// mortal is a program that dies after a third of a second.
const mortal = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 1'\n"

// until reads a unit until ok.
func (b *bench) until(unit, what string, ok func(machine.UnitState) bool) machine.UnitState {
	b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st := b.state(unit)
		if ok(st) {
			return st
		}
		if time.Now().After(end) {
			b.Fatalf("%s never %s: %+v", unit, what, st)
		}
	}
}

// diesLater tells what a watcher of health rests on: a start job that is done says nothing, a unit
// that dies is failed with its exit, and restarts are counted from the last start job on.
func diesLater(b *bench) {
	once := b.unit("mortal.service", mortal)
	loop := b.unit("loop.service", mortal+"Restart=always\nRestartSec=20ms\n")
	b.reload()
	b.ok("start", once, loop)
	if st := b.state(once); st.Active != "active" || st.Restarts != 0 {
		b.Errorf("just started: %+v", st)
	}

	st := b.until(once, "fails", func(s machine.UnitState) bool { return s.Active == "failed" })
	isDead := st.Result == "exit-code" && st.Exit.Status == 1 && st.MainPID == 0
	if !isDead || len(st.Invocation) != 32 {
		b.Errorf("dead: %+v", st)
	}

	first := b.state(loop)
	st = b.until(loop, "is restarted", func(s machine.UnitState) bool { return s.Restarts > first.Restarts && s.Active == "active" })
	if st.Invocation == first.Invocation {
		b.Error("a restart kept the invocation")
	}

	b.ok("restart", loop)
	if st := b.state(loop); st.Restarts != 0 {
		b.Errorf("%d restarts right after a restart by hand, want 0", st.Restarts)
	}

	b.ok("stop", loop)
	b.ok("start", loop)
	if st := b.state(loop); st.Restarts != 0 {
		b.Errorf("%d restarts right after a start, want 0", st.Restarts)
	}

	b.ok("stop", loop)
}

const commandUnit = "bhconf-command.service"

// command runs one to its end. The unit leaves with the test.
func (b *bench) command(c machine.Command) machine.CommandState {
	b.Helper()
	b.Cleanup(func() { b.m.Commands.Remove(context.Background(), c.Unit) })
	b.must(b.m.Commands.Start(b.ctx, c))
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		st, err := b.m.Commands.CommandState(b.ctx, c.Unit)
		b.must(err)
		if st.Mark != c.Mark {
			b.Fatalf("mark %q, want %q", st.Mark, c.Mark)
		}
		if !st.Running {
			return st
		}
		if time.Now().After(end) {
			b.Fatalf("%q does not end: %+v", c.Text, st)
		}
	}
}

func commands(b *bench) {
	none, err := b.m.Commands.CommandState(b.ctx, commandUnit)
	if err != nil || none != (machine.CommandState{}) {
		b.Errorf("CommandState of none = %+v, %v", none, err)
	}

	b.must(b.m.Commands.Remove(b.ctx, commandUnit)) // is fine

	for _, tt := range []struct {
		text, user, result string
		status             int
	}{
		{"exit 0", "", "success", 0}, {"exit 3", "daemon", "exit-code", 3}, {"exit 0", "bhconf-nobody", "exit-code", 217},
	} {
		c := machine.Command{Unit: commandUnit, Mark: "bhconf: " + tt.text + " as " + tt.user, Text: tt.text, User: tt.user, Timeout: 10 * time.Second}
		st := b.command(c)
		if st.Result != tt.result || st.Exit.Status != tt.status || len(st.Invocation) != 32 {
			b.Errorf("%q as %q: %+v, want %s and %d", tt.text, tt.user, st, tt.result, tt.status)
		}
		if err := b.m.Commands.Start(b.ctx, c); err == nil && tt.result == "success" {
			b.Error("a command was started in a unit that is there")
		}

		b.must(b.m.Commands.Remove(b.ctx, commandUnit))
		if st, err := b.m.Commands.CommandState(b.ctx, commandUnit); err != nil || st.Mark != "" {
			b.Errorf("after Remove: %+v, %v", st, err)
		}
	}
}

func slowCommand(b *bench) {
	c := machine.Command{Unit: commandUnit, Mark: "bhconf: slow", Text: "sleep 1000", Timeout: 300 * time.Millisecond}
	b.must(b.m.Commands.Start(b.ctx, c))
	if st, err := b.m.Commands.CommandState(b.ctx, commandUnit); err != nil || !st.Running || st.Mark != c.Mark {
		b.Errorf("while it runs: %+v, %v", st, err)
	}
	b.must(b.m.Commands.Remove(b.ctx, commandUnit)) // ends it
	if st, err := b.m.Commands.CommandState(b.ctx, commandUnit); err != nil || st.Mark != "" {
		b.Errorf("after Remove: %+v, %v", st, err)
	}
	if st := b.command(c); st.Result != "timeout" {
		b.Errorf("after its time: %+v, want a timeout", st)
	}
}

func journal(b *bench) {
	st := b.command(machine.Command{Unit: commandUnit, Mark: "bhconf: echo", Text: "echo bhconf says hello", Timeout: 10 * time.Second, Quiet: true})
	for _, invocation := range []string{st.Invocation, ""} {
		lines := b.m.Journal.Lines(b.ctx, commandUnit, invocation, time.Time{}, 50)
		said := func(l string) bool { return strings.Contains(l, "bhconf says hello") }
		if len(lines) > 50 || !slices.ContainsFunc(lines, said) {
			b.Errorf("Lines(%q) = %q, want what it said", invocation, lines)
		}
	}
	if lines := b.m.Journal.Lines(b.ctx, "bhconf-none.service", "", time.Time{}, 50); len(lines) > 0 {
		b.Errorf("a unit that never was said %q", lines)
	}
}

func probes(b *bench) {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	if a := b.m.Prober.Ask(ctx, bundle.Probe{Command: "exit 0", User: "daemon"}); a.Wrong != "" {
		b.Errorf("a command that does well: %+v", a)
	}
}
