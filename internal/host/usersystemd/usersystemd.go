// Package usersystemd makes one service manager of a host's systemd and those of its users.
//
// A unit that is called USER/NAME belongs to the systemd of that user, and everything that is asked of it is
// asked there. All else goes to the host's. Whoever is the user may have exchanged the other end for a
// program of his own: what it says is taken for how his units do and for nothing else, and where it says
// nothing in time his units are told as failed, so that no user keeps others from being deployed.
package usersystemd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// askTime is how long a user's systemd has to answer what is no job.
const askTime = 10 * time.Second

// Unreachable is the Result of units of a user whose systemd runs and does not answer.
const Unreachable = "unreachable"

// Opener opens the systemd of a user. With start it is started where it does not run; without, it is nil
// where it does not. The user may be unknown to the host: then there is none to start.
type Opener interface {
	Open(ctx context.Context, user string, start bool) (machine.Systemd, error)
	// End stops the systemd of a user who does not linger any more, unless somebody is logged in as the user.
	End(ctx context.Context, user string) error
	Close() error
}

// An Error is that of one user's systemd.
type Error struct {
	User string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("systemd of user %s: %v", e.User, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// A Systemd is the host's systemd, with those of users beside it.
type Systemd struct {
	machine.Systemd // the host's
	Users           Opener

	mu   sync.Mutex
	seen map[string]bool // users who were asked about
}

var _ machine.Systemd = (*Systemd)(nil)

// New puts users beside the host's systemd.
func New(host machine.Systemd, users Opener) *Systemd {
	return &Systemd{Systemd: host, Users: users, seen: map[string]bool{}}
}

// byUser divides names of units; those of the host's are under "".
func (s *Systemd) byUser(names []string) map[string][]string {
	by := map[string][]string{}
	for _, n := range names {
		user, unit := bundle.SplitUnit(n)
		by[user] = append(by[user], unit)
		if user != "" {
			s.mu.Lock()
			s.seen[user] = true
			s.mu.Unlock()
		}
	}
	return by
}

// users are those of by, in order.
func users(by map[string][]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(by)), func(u string) bool { return u == "" })
}

// named is what a user's systemd says, in the names that units have here.
func named(user string, states map[string]machine.UnitState, into map[string]machine.UnitState) {
	name := func(n string) string { return bundle.UserUnit(user, n) }
	for n, st := range states {
		st.Name = name(st.Name)
		for _, list := range []*[]string{&st.TriggeredBy, &st.NeededBy, &st.Before} {
			renamed := make([]string, len(*list))
			for i, other := range *list {
				renamed[i] = name(other)
			}
			*list = renamed
		}
		into[name(n)] = st
	}
}

// A reading is one of the calls that read states.
type reading func(s machine.Systemd, ctx context.Context, names []string) (map[string]machine.UnitState, error)

func (s *Systemd) read(ctx context.Context, names []string, brief bool, read reading) (map[string]machine.UnitState, error) {
	by := s.byUser(names)
	all := map[string]machine.UnitState{}
	if host := by[""]; len(host) > 0 || len(by) == 0 {
		states, err := read(s.Systemd, ctx, host)
		if err != nil {
			return nil, err
		}
		all = states
	}

	for _, user := range users(by) {
		states, err := s.readUser(ctx, user, by[user], read)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch {
		case err != nil && !brief:
			states = made(by[user], machine.UnitState{Load: "error", Active: "failed", Sub: "failed", Result: Unreachable})
		case states == nil && !brief:
			states = made(by[user], machine.UnitState{Load: "not-found", Active: "inactive", Sub: "dead", Result: "success"})
		}
		named(user, states, all)
	}
	return all, nil
}

// readUser reads units of one user; nil where his systemd does not run.
func (s *Systemd) readUser(ctx context.Context, user string, names []string, read reading) (map[string]machine.UnitState, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	of, err := s.Users.Open(ctx, user, false)
	if err != nil || of == nil {
		return nil, err
	}
	return read(of, ctx, names)
}

// made gives each unit the same state.
func made(names []string, st machine.UnitState) map[string]machine.UnitState {
	states := make(map[string]machine.UnitState, len(names))
	for _, n := range names {
		st.Name = n
		states[n] = st
	}
	return states
}

// Glance is that of whose the units are.
func (s *Systemd) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	return s.read(ctx, names, false, machine.Systemd.Glance)
}

// Units is that of whose the units are.
func (s *Systemd) Units(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	return s.read(ctx, names, false, machine.Systemd.Units)
}

// Steady is that of whose the units are.
func (s *Systemd) Steady(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	return s.read(ctx, names, true, machine.Systemd.Steady)
}

// Job does jobs of the host's units first, and then those of users. A user's systemd that does not run is
// started for all but a stop.
func (s *Systemd) Job(ctx context.Context, verb string, names []string) map[string]error {
	by := s.byUser(names)
	errs := map[string]error{}
	if len(by[""]) > 0 {
		errs = s.Systemd.Job(ctx, verb, by[""])
	}

	for _, user := range users(by) {
		of, err := s.Users.Open(ctx, user, verb != "stop" && verb != "try-restart")
		switch {
		case err != nil:
			for _, n := range by[user] {
				errs[bundle.UserUnit(user, n)] = fmt.Errorf("%s %s: %w", verb, n, err)
			}
		case of != nil:
			for n, err := range of.Job(ctx, verb, by[user]) {
				errs[bundle.UserUnit(user, n)] = err
			}
		}
	}
	return errs
}

// Queue asks whose unit it is. A user's systemd that does not run starts by itself what is to run, once it
// does.
func (s *Systemd) Queue(ctx context.Context, verb, name string) error {
	user, unit := bundle.SplitUnit(name)
	if user == "" {
		return s.Systemd.Queue(ctx, verb, name)
	}

	of, err := s.Users.Open(ctx, user, false)
	if err != nil || of == nil {
		return err
	}
	return of.Queue(ctx, verb, unit)
}

// Reload has the host's systemd read its files again, and that of each user whose units this was asked
// about. One who does not linger any more needs none: it is ended.
func (s *Systemd) Reload(ctx context.Context) error {
	if err := s.Systemd.Reload(ctx); err != nil {
		return err
	}

	s.mu.Lock()
	all := slices.Sorted(maps.Keys(s.seen))
	s.mu.Unlock()

	var errs []error
	for _, user := range all {
		if err := s.reloadUser(ctx, user); err != nil {
			errs = append(errs, &Error{user, err})
		}
	}
	return errors.Join(errs...)
}

// IsOfUsers says that an error is of users' systemds alone. Who goes back to where a run began goes on: a
// user who keeps his own systemd from answering must not keep the host from that.
func IsOfUsers(err error) bool {
	if several, is := err.(interface{ Unwrap() []error }); is {
		return !slices.ContainsFunc(several.Unwrap(), func(err error) bool { return !IsOfUsers(err) })
	}
	var of *Error
	return errors.As(err, &of)
}

// IsOf says that an error is, or has among others, one of the systemd of that user.
func IsOf(err error, user string) bool {
	if several, is := err.(interface{ Unwrap() []error }); is {
		return slices.ContainsFunc(several.Unwrap(), func(err error) bool { return IsOf(err, user) })
	}
	var of *Error
	return errors.As(err, &of) && of.User == user
}

func (s *Systemd) reloadUser(ctx context.Context, user string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()

	if err := s.Users.End(ctx, user); err != nil {
		return err
	}
	of, err := s.Users.Open(ctx, user, false)
	if err != nil || of == nil {
		return err
	}
	return of.Reload(ctx)
}

// each does something at all whose units are named, where they run.
func (s *Systemd) each(ctx context.Context, names []string, do func(of machine.Systemd, ctx context.Context, names []string) error) error {
	by := s.byUser(names)
	if len(by[""]) > 0 {
		if err := do(s.Systemd, ctx, by[""]); err != nil {
			return err
		}
	}

	for _, user := range users(by) {
		of, err := s.Users.Open(ctx, user, false)
		if err == nil && of != nil {
			err = do(of, ctx, by[user])
		}
		if err != nil {
			return &Error{user, err}
		}
	}
	return nil
}

// Close ends the connections to all.
func (s *Systemd) Close() error { return errors.Join(s.Users.Close(), s.Systemd.Close()) }

// Enable is that of whose the units are.
func (s *Systemd) Enable(ctx context.Context, names []string) error {
	return s.each(ctx, names, machine.Systemd.Enable)
}

// Disable is that of whose the units are.
func (s *Systemd) Disable(ctx context.Context, names []string) error {
	return s.each(ctx, names, machine.Systemd.Disable)
}

// ResetFailed is that of whose the units are.
func (s *Systemd) ResetFailed(ctx context.Context, names []string) error {
	return s.each(ctx, names, machine.Systemd.ResetFailed)
}
