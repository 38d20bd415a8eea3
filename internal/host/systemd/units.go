package systemd

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"bellhop/internal/host/machine"
)

// atOnce is how many units are read side by side: the calls share one connection, and its
// other end answers them one by one.
const atOnce = 8

// Units reads what systemd says of these units now. Reading loads a unit, so one that has no
// file is told as not-found, and is no error.
func (s *Systemd) Units(ctx context.Context, names []string) (states map[string]machine.UnitState, err error) {
	err = s.again(ctx, func(c *dbus.Conn) error {
		states, err = units(ctx, c, names)
		return err
	})

	if err != nil {
		return nil, fmt.Errorf("read units: %w", err)
	}
	return states, nil
}

// Glance reads in one call what systemd lists of these units.
func (s *Systemd) Glance(ctx context.Context, names []string) (states map[string]machine.UnitState, err error) {
	err = s.again(ctx, func(c *dbus.Conn) error {
		list, err := c.ListUnitsByNamesContext(ctx, names)
		if err != nil {
			return err
		}

		states = make(map[string]machine.UnitState, len(list))
		for _, u := range list {
			states[u.Name] = machine.UnitState{Name: u.Name, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState, Job: u.JobId != 0}
		}

		return nil
	})

	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	return states, nil
}

// Steady reads what is at rest. A property of a unit file is what costs systemd most: it looks through
// all folders of unit files for each unit, and once for all that it lists.
func (s *Systemd) Steady(ctx context.Context, names []string) (states map[string]machine.UnitState, err error) {
	states, err = s.Glance(ctx, names)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(states, func(n string, st machine.UnitState) bool { return !st.AtRest() || !slices.Contains(names, n) })
	if len(states) == 0 {
		return states, nil
	}

	err = s.again(ctx, func(c *dbus.Conn) error {
		files, err := c.ListUnitFilesByPatternsContext(ctx, nil, slices.Sorted(maps.Keys(states)))
		if err != nil {
			return err
		}
		lives, err := invocations(ctx, c, slices.Sorted(maps.Keys(states)))
		if err != nil {
			return err
		}

		fileOf := make(map[string]string, len(files))
		for _, f := range files {
			fileOf[path.Base(f.Path)] = f.Type
		}
		for n, st := range states {
			st.Result, st.RanThisBoot = "success", true // it was started since boot, and that resets the result
			st.File, st.Invocation = fileOf[n], lives[n]
			delete(states, n)
			if st.File != "" && !st.Masked() { // instances and aliases are not listed by name
				states[n] = st
			}
		}
		return nil
	})

	if err != nil {
		return nil, fmt.Errorf("read units: %w", err)
	}
	return states, nil
}

// invocations are the invocation ids of units.
func invocations(ctx context.Context, c *dbus.Conn, names []string) (map[string]string, error) {
	var mu sync.Mutex
	lives := make(map[string]string, len(names))
	err := sideBySide(names, func(n string) error {
		p, err := c.GetUnitPropertyContext(ctx, n, "InvocationID")
		if err != nil {
			return err
		}

		mu.Lock()
		defer mu.Unlock()
		id, _ := p.Value.Value().([]byte)
		lives[n] = hex.EncodeToString(id)
		return nil
	})
	return lives, err
}

// Loaded is Glance of all units that systemd has loaded.
func (s *Systemd) Loaded(ctx context.Context) (states map[string]machine.UnitState, err error) {
	err = s.again(ctx, func(c *dbus.Conn) error {
		all, err := c.ListUnitsContext(ctx)
		if err != nil {
			return err
		}

		states = make(map[string]machine.UnitState, len(all))
		for _, u := range all {
			states[u.Name] = machine.UnitState{Name: u.Name, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState, Job: u.JobId != 0}
		}
		return nil
	})
	return states, err
}

func units(ctx context.Context, c *dbus.Conn, names []string) (map[string]machine.UnitState, error) {
	var mu sync.Mutex
	states := make(map[string]machine.UnitState, len(names))
	err := sideBySide(names, func(n string) error {
		st, err := read(ctx, c, n)
		mu.Lock()
		defer mu.Unlock()

		states[n] = st
		return err
	})
	return states, err
}

// sideBySide does something for each name, atOnce at the same time, and returns the first error with its name.
func sideBySide(names []string, do func(name string) error) error {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		first error
		slots = make(chan struct{}, atOnce)
	)

	for _, n := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()

			err := do(n)
			mu.Lock()
			defer mu.Unlock()

			if err != nil && first == nil {
				first = fmt.Errorf("%s: %w", n, err)
			}
		})
	}

	wg.Wait()
	return first
}

// props are D-Bus properties, read without fear of their types.
type props map[string]any

func (p props) text(k string) string { v, _ := p[k].(string); return v }
func (p props) yes(k string) bool    { v, _ := p[k].(bool); return v }
func (p props) list(k string) []string {
	v, _ := p[k].([]string)
	return v
}

func read(ctx context.Context, c *dbus.Conn, name string) (machine.UnitState, error) {
	st := machine.UnitState{Name: name, Load: "not-found", Active: "inactive", Sub: "dead", Result: "success"}
	all, err := c.GetUnitPropertiesContext(ctx, name)
	if named(err, "NoSuchUnit") || named(err, "UnknownObject") || named(err, "InvalidArgs") {
		return st, nil // no name that a unit could have
	}
	if err != nil {
		return st, err
	}

	p := props(all)
	st.Load, st.Active, st.Sub = p.text("LoadState"), p.text("ActiveState"), p.text("SubState")
	st.File, st.Fragment = p.text("UnitFileState"), p.text("FragmentPath")
	st.CanReload = p.yes("CanReload")
	st.TriggeredBy, _ = p["TriggeredBy"].([]string)
	slices.Sort(st.TriggeredBy)
	for _, k := range []string{"RequiredBy", "WantedBy", "BoundBy", "RequisiteOf"} {
		st.NeededBy = append(st.NeededBy, p.list(k)...)
	}

	st.Before = p.list("Before")
	if id, _ := p["InvocationID"].([]byte); len(id) > 0 {
		st.Invocation = hex.EncodeToString(id)
	}

	changed, _ := p["StateChangeTimestamp"].(uint64) // microseconds
	st.Since = int64(changed / 1e6)
	left, _ := p["InactiveExitTimestampMonotonic"].(uint64)
	st.RanThisBoot = left > 0
	judged, _ := p["ConditionTimestampMonotonic"].(uint64)
	st.Skipped = judged > 0 && !p.yes("ConditionResult")
	asserted, _ := p["AssertTimestampMonotonic"].(uint64)
	st.Barred = asserted > 0 && !p.yes("AssertResult")
	if j, _ := p["Job"].([]any); len(j) == 2 {
		id, _ := j[0].(uint32)
		st.Job = id != 0
	}
	if st.Load != "loaded" {
		return st, nil
	}

	return st, ofKind(ctx, c, &st)
}

// kinds are the D-Bus interfaces that tell a Result.
var kinds = map[string]string{
	"service": "Service", "socket": "Socket", "timer": "Timer", "path": "Path", "mount": "Mount", "swap": "Swap", "automount": "Automount",
}

// ofKind adds what is known only of a kind of unit. A service has 250 properties more, so the few
// that matter are asked one by one.
func ofKind(ctx context.Context, c *dbus.Conn, st *machine.UnitState) error {
	kind := kinds[st.Name[strings.LastIndex(st.Name, ".")+1:]]
	if kind == "" {
		return nil
	}

	ask := func(prop string) (godbus.Variant, error) {
		p, err := c.GetUnitTypePropertyContext(ctx, st.Name, kind, prop)
		if err != nil {
			return godbus.Variant{}, err
		}
		return p.Value, nil
	}

	result, err := ask("Result")
	if err != nil {
		return err
	}

	st.Result, _ = result.Value().(string)
	if kind != "Service" {
		return nil
	}

	got := map[string]any{}
	for _, prop := range []string{"NRestarts", "MainPID", "Type", "RemainAfterExit"} {
		v, err := ask(prop)
		if err != nil {
			return err
		}

		got[prop] = v.Value()
	}

	restarts, _ := got["NRestarts"].(uint32)
	pid, _ := got["MainPID"].(uint32)
	st.Restarts, st.MainPID = int(restarts), int(pid)
	st.Oneshot = got["Type"] == "oneshot" && got["RemainAfterExit"] == false
	if exitKinds[st.Result] != nil {
		st.Exit = exitOf(st.Result, ask)
	}

	return nil
}

// What waitid(2) calls the ways in which a program ends.
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// exitKinds are the results that a program's end explains, and how that program ended.
var exitKinds = map[string][]int32{
	"exit-code": {cldExited}, "signal": {cldKilled, cldDumped}, "core-dump": {cldDumped}, "timeout": {cldKilled, cldDumped}, "watchdog": {cldKilled, cldDumped},
}

// controls are the lines of a unit file whose programs can fail beside ExecStart's.
var controls = []string{"ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}

// exitOf finds the program that ended last in the way that result speaks of: the main one, or one
// of the lines around it. What can't be read says nothing, since it only explains.
func exitOf(result string, ask func(string) (godbus.Variant, error)) (found machine.Exit) {
	var newest uint64
	take := func(line string, at uint64, code, status int32) {
		well := code == cldExited && status == 0
		if at < newest || well || !slices.Contains(exitKinds[result], code) {
			return
		}

		newest, found = at, machine.Exit{Line: line, Status: int(status)}
		if code != cldExited {
			found = machine.Exit{Line: line, Signal: int(status)}
		}
	}

	get := func(prop string) any {
		v, err := ask(prop)
		if err != nil {
			return nil // older than the property
		}
		return v.Value()
	}

	at, _ := get("ExecMainExitTimestampMonotonic").(uint64)
	code, _ := get("ExecMainCode").(int32)
	status, _ := get("ExecMainStatus").(int32)
	take("", at, code, status)
	for _, line := range controls {
		programs, _ := get(line).([][]any) // path, arguments, whether failure is ignored, four times, PID, code, status
		for _, p := range programs {
			if len(p) != 10 || p[2] == true {
				continue
			}

			at, _ := p[6].(uint64)
			code, _ := p[8].(int32)
			status, _ := p[9].(int32)
			take(line, at, code, status)
		}
	}

	return found
}
