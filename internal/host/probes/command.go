package probes

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/command"
	"bellhop/internal/host/machine"
)

// removeTime is how long the end of a command may take that was not waited for.
const removeTime = 10 * time.Second

// askCommand runs the command of a probe in a transient unit whose name follows from it, so that one
// that a process left behind is found by the next. Two probes of the same command wait for each
// other.
func (o *Prober) askCommand(ctx context.Context, p bundle.Probe) machine.Answer {
	unit := bundle.ProbeUnits + bundle.DigestBytes([]byte(p.User + "\x00" + p.Command))[:16] + ".service"
	one := o.lockOf(unit)
	one.Lock()
	defer one.Unlock()

	c := machine.Command{Unit: unit, Text: p.Command, User: p.User, Quiet: true, Timeout: timeoutOf(p)}
	c.Mark = fmt.Sprintf("bellhop: probe %d", time.Now().UnixNano()) // what a dead process left is none of ours
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
		defer cancel()
		o.Commands.Remove(ctx, unit)
	}()

	st, err := command.Run(ctx, o.Commands, c)
	switch {
	case ctx.Err() != nil:
		return machine.Answer{Wrong: fmt.Sprintf("it was not done within %v, and was killed", c.Timeout), Unit: unit, Invocation: st.Invocation}
	case err != nil:
		return machine.Answer{Wrong: err.Error()}
	}
	return machine.Answer{Wrong: command.Wrong(c, st), Status: cmp.Or(st.Exit.Signal, st.Exit.Status), Unit: unit, Invocation: st.Invocation}
}

func timeoutOf(p bundle.Probe) time.Duration {
	return cmp.Or(time.Duration(p.Timeout)*time.Millisecond, bundle.DefaultTimeout)
}

// lockOf is the lock of a unit.
func (o *Prober) lockOf(unit string) *sync.Mutex {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.units == nil {
		o.units = map[string]*sync.Mutex{}
	}
	if o.units[unit] == nil {
		o.units[unit] = &sync.Mutex{}
	}
	return o.units[unit]
}
