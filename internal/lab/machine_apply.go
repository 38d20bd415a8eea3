package lab

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/machine"
)

// applyUnit is the transient unit while it is there.
type applyUnit struct {
	run  string
	dead chan struct{} // closed: the plug was pulled, the run goes no further than its next step
	done chan struct{}
}

var runID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// restartWait is RestartUSec of the transient unit.
const restartWait = 100 * time.Millisecond

// StartApply runs the engine's Apply in this process. When a test's Reached ends it, or it
// returns an error, it is started again, as Restart=on-failure would, five times at most.
func (s twinSystemd) StartApply(_ context.Context, run string) error {
	defer s.lock()()
	if !runID.MatchString(run) {
		return fmt.Errorf("start %s: run id %q", bundle.ApplyUnit, run)
	}
	if s.m.apply != nil {
		return machine.ErrBusy
	}

	a := &applyUnit{run: run, dead: make(chan struct{}), done: make(chan struct{})}
	s.m.apply = a
	go s.m.runApply(a)
	return nil
}

func (m *Machine) runApply(a *applyUnit) {
	defer close(a.done)
	for range 5 {
		if m.applyOnce(a) || a.isDead() {
			break
		}
		time.Sleep(restartWait)
	}
	m.mu.Lock()
	m.apply = nil
	m.mu.Unlock()
}

func (a *applyUnit) isDead() bool {
	select {
	case <-a.dead:
		return true
	default:
		return false
	}
}

// applyOnce is one process of the unit; it says whether it ended well.
func (m *Machine) applyOnce(a *applyUnit) (ok bool) {
	h := *m.host
	kill := h.Reached
	h.Reached = func(step string) {
		if a.isDead() {
			panic("the plug was pulled at " + step)
		}
		if kill != nil {
			kill(step)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // what waits ends at once: there is no next step to die at
		select {
		case <-a.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	done := make(chan bool, 1)
	go func() {
		fine := false
		defer func() {
			survive(recover())
			done <- fine
		}()
		fine = host.Apply(ctx, &h, a.run) == nil
	}()
	return <-done
}

// survive lets a test's panic stand for kill -9, and shows one that is a fault.
func survive(p any) {
	if _, fault := p.(runtime.Error); fault {
		fmt.Fprintf(os.Stderr, "lab: the engine panicked: %v\n%s", p, debug.Stack())
	}
}

// WaitApply waits until no run is at work, or the time is over.
func (m *Machine) WaitApply(limit time.Duration) bool {
	m.mu.Lock()
	a := m.apply
	m.mu.Unlock()
	if a == nil {
		return true
	}
	select {
	case <-a.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// killApply ends a run at its next step, as pulling the plug would.
func (m *Machine) killApply() {
	m.mu.Lock()
	a := m.apply
	m.mu.Unlock()
	if a == nil {
		return
	}
	close(a.dead)
	m.WaitApply(time.Minute)
}

// AwaitPlug is for a test's Reached: it holds the run that is at work on m where it is, until Reboot pulls the plug.
func AwaitPlug(m *Machine) {
	m.mu.Lock()
	a := m.apply
	m.mu.Unlock()
	if a != nil {
		<-a.dead
	}
}
