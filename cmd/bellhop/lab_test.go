package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"bellhop/internal/lab"
)

// hosts NAME...: start lab hosts, and write what bellhop.yaml says of each to NAME.yaml.
func cmdHosts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		m := lab.NewMachine(ts.MkAbs("hosts/" + name))
		h, err := lab.NewHost(name, m)
		ts.Check(err)
		ts.Defer(func() { h.Close() })
		machines(ts)[name] = labHost{m, h}
		ts.Check(os.WriteFile(ts.MkAbs(name+".yaml"),
			fmt.Appendf(nil, "  %s:\n    address: %s\n    host_key: %s\n", name, h.Address(), h.HostKey()), 0o644))
	}
}

type labHost struct {
	machine *lab.Machine
	ssh     *lab.Host
}

// machines are the lab hosts of a script.
func machines(ts *testscript.TestScript) map[string]labHost {
	return ts.Value(labKey{}).(map[string]labHost)
}

type labKey struct{}

// fleet HEAD HOST.yaml...: join texts to config/bellhop.yaml.
func cmdFleet(ts *testscript.TestScript, _ bool, args []string) {
	var b strings.Builder
	for _, f := range args {
		b.WriteString(ts.ReadFile(f))
	}
	ts.Check(os.WriteFile(ts.MkAbs("config/bellhop.yaml"), []byte(b.String()), 0o644))
}

// unit HOST UNIT STATE: want a unit's state on a lab host.
func cmdUnit(ts *testscript.TestScript, _ bool, args []string) {
	if got := machines(ts)[args[0]].machine.Unit(args[1]).Active; got != args[2] {
		ts.Fatalf("%s on %s is %s, want %s", args[1], args[0], got, args[2])
	}
}

// onhost HOST PATH WANT: want the content of a file on a lab host.
func cmdOnHost(ts *testscript.TestScript, neg bool, args []string) {
	b, err := os.ReadFile(filepath.Join(machines(ts)[args[0]].machine.Dir(), args[1]))
	if neg {
		if err == nil {
			ts.Fatalf("%s is on %s, want it gone", args[1], args[0])
		}
		return
	}
	ts.Check(err)
	if got := strings.TrimSuffix(string(b), "\n"); got != args[2] {
		ts.Fatalf("%s on %s is %q, want %q", args[1], args[0], got, args[2])
	}
}

// sabotage HOST UNIT: make a unit fail to start; cut HOST: pull its network cable.
func cmdSabotage(ts *testscript.TestScript, neg bool, args []string) {
	m := machines(ts)[args[0]].machine
	if neg {
		m.Mend(args[1])
	} else {
		m.Fail(args[1])
	}
}

func cmdCut(ts *testscript.TestScript, neg bool, args []string) {
	h := machines(ts)[args[0]].ssh
	if neg {
		ts.Check(h.Mend())
	} else {
		h.Cut()
	}
}

// sessions HOST N: want that many SSH sessions so far.
func cmdSessions(ts *testscript.TestScript, _ bool, args []string) {
	if got := fmt.Sprint(machines(ts)[args[0]].ssh.Counts().Sessions); got != args[1] {
		ts.Fatalf("%s had %s sessions, want %s", args[0], got, args[1])
	}
}
