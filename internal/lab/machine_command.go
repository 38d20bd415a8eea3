package lab

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"bellhop/internal/host/machine"
)

// A Script says what a command does on the twin, which runs none.
type Script struct {
	Takes time.Duration // until it ends, or its timeout is over
	Exit  int
	Says  []string // to the journal
	Do    func()   // when it begins; nil: nothing
}

// commands are what the twin knows of commands of the config repo.
type commands struct {
	mu      sync.Mutex
	scripts map[string]Script       // by the text of the command
	ran     []string                // "user: text"
	units   map[string]*twinCommand // that are there
}

// Script sets what a command does, by its text. One for which nothing is set does well at once.
func (c *commands) Script(text string, s Script) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scripts == nil {
		c.scripts = map[string]Script{}
	}
	c.scripts[text] = s
}

// known are commands that do on the twin what they do on a host.
var known = regexp.MustCompile(`^(exit|sleep|echo) (.+)$`)

// scriptOf is what a command does.
func (c *commands) scriptOf(text string) Script {
	if s, set := c.scripts[text]; set {
		return s
	}
	words := known.FindStringSubmatch(text)
	if words == nil {
		return Script{}
	}
	switch number, _ := strconv.ParseFloat(words[2], 64); words[1] {
	case "exit":
		return Script{Exit: int(number)}
	case "sleep":
		return Script{Takes: time.Duration(number * float64(time.Second))}
	}
	return Script{Says: []string{words[2]}}
}

// Ran are the commands that began, as "user: text", in order.
func (c *commands) Ran() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ran)
}

// CommandUnits are the transient units of commands that are there.
func (c *commands) CommandUnits() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.units))
}

// powerOff ends all commands.
func (c *commands) powerOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.units = nil
}

// A twinCommand is a command in its transient unit.
type twinCommand struct {
	machine.Command
	script     Script
	began      time.Time
	invocation string
}

// twinCommands is the engine's face of what runs commands.
type twinCommands struct{ m *Machine }

func (t twinCommands) Start(_ context.Context, c machine.Command) error {
	user := cmp.Or(c.User, "root")
	_, known, err := t.m.host.Accounts.User(user)
	if err != nil {
		return err
	}

	script, isNix := t.m.nixScript(c.Text)
	all := &t.m.commands
	all.mu.Lock()
	if all.units[c.Unit] != nil {
		all.mu.Unlock()
		return fmt.Errorf("start %s: it is there already", c.Unit)
	}
	if !isNix {
		script = all.scriptOf(c.Text)
	}
	one := &twinCommand{Command: c, script: script, began: time.Now(), invocation: fmt.Sprintf("%x", randomBytes(16))}
	if known {
		all.ran = append(all.ran, user+": "+c.Text)
	} else {
		one.script = Script{Exit: 217}
	}
	if all.units == nil {
		all.units = map[string]*twinCommand{}
	}
	all.units[c.Unit] = one
	all.mu.Unlock()

	t.m.Say(c.Unit, one.script.Says...)
	if one.script.Do != nil {
		one.script.Do()
	}
	return nil
}

func (t twinCommands) CommandState(_ context.Context, unit string) (machine.CommandState, error) {
	all := &t.m.commands
	all.mu.Lock()
	defer all.mu.Unlock()
	c := all.units[unit]
	if c == nil {
		return machine.CommandState{}, nil
	}

	st := machine.CommandState{Mark: c.Mark, Invocation: c.invocation}
	took := time.Since(c.began)
	switch {
	case c.script.Takes >= c.Timeout && took >= c.Timeout:
		st.Result, st.Exit = "timeout", machine.Exit{Signal: 15}
	case took < c.script.Takes:
		st.Running = true
	case c.script.Exit != 0:
		st.Result, st.Exit = "exit-code", machine.Exit{Status: c.script.Exit}
	default:
		st.Result = "success"
	}
	return st, nil
}

func (t twinCommands) Remove(_ context.Context, unit string) error {
	all := &t.m.commands
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.units, unit)
	return nil
}
