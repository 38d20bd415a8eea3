// Package drift looks at hosts between runs: what was edited there by hand, which units failed, whether a
// reboot is due.
//
// A look changes nothing on its host, is no run, and begins none. It takes no place from a run, and ends at
// once when somebody else has work on the host. A clock looks at each host a whole interval after its last
// contact; a person asks for a Drift, or pulls an edited file as a change of the repo. The one thing that follows
// from a look is what follows from any contact after a reboot: keys that are missing are put back.
package drift

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bellhop/deploy/contact"
	"bellhop/deploy/keys"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/looks"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// A Looker looks at hosts.
type Looker struct {
	contact.Contact
	Keys  keys.Keys
	State *State

	// Awaits says that the line of a host is kept and down, and tells when it answers.
	Awaits func(host string) bool
	// Jitter returns a time from 0 to most, by which looks are spread; nil: a random one.
	Jitter func(most time.Duration) time.Duration
	// NoteAnswer has history remember whether a host answers, by the error of a session; nil: it does.
	NoteAnswer func(host string, err error)
}

// A State is what a deployer keeps for looks by the clock. The zero value has no clock.
type State struct {
	Work sync.WaitGroup // until the clock has stopped

	mu     sync.Mutex
	clock  *clock
	logged map[string]string // by host: the failure that was logged last
}

// start starts a clock, which ends with ctx.
func (s *State) start(ctx context.Context, clock *clock) {
	s.mu.Lock()
	s.clock = clock
	s.mu.Unlock()
	s.Work.Go(func() { clock.serve(ctx) })
}

// Changed tells the clock, if there is one, that its interval or its hosts may be others.
func (s *State) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock != nil {
		s.clock.changed()
	}
}

// isNews notes how looks at a host fail, "" when they don't, and returns whether that is new.
func (s *State) isNews(host, failure string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	was := s.logged[host]

	switch {
	case failure == "":
		delete(s.logged, host)
	case s.logged == nil:
		s.logged = map[string]string{host: failure}
	default:
		s.logged[host] = failure
	}

	return failure != "" && failure != was
}

// Serve looks at hosts by the clock, from now on until ctx ends. It returns at once.
func (l Looker) Serve(ctx context.Context) {
	clock := newClock()
	clock.every, clock.contacts, clock.look = l.every, l.contacts, l.byClock
	if l.Jitter != nil {
		clock.jitter = l.Jitter
	}
	l.State.start(ctx, clock)
}

// every is how often the config wants hosts to be looked at; 0 before it was read.
func (l Looker) every() time.Duration {
	if f := l.Fleet(); f != nil {
		return f.Look
	}
	return 0
}

// contacts are the hosts that can be looked at, and when each was heard last. One that does not answer,
// and whose line tells when it does, is not among them.
func (l Looker) contacts() map[string]time.Time {
	f := l.Fleet()
	if f == nil {
		return nil
	}

	hosts := map[string]time.Time{}
	for name, h := range l.History.Hosts() {
		if _, isListed := f.Host(name); !isListed || !h.Had {
			continue
		}

		isAway := !h.AwayAt.IsZero() && l.Awaits(name)
		if !isAway && h.State != history.Deploying {
			hosts[name] = h.SeenAt
		}
	}

	return hosts
}

// byClock is one look that nobody asked for.
func (l Looker) byClock(ctx context.Context, host string) {
	f := l.Fleet()
	if f == nil {
		return
	}
	h, ok := f.Host(host)
	if !ok {
		return
	}

	limited, cancel := context.WithTimeoutCause(ctx, l.Limit, push.ErrDeadline)
	defer cancel()
	_, err := l.at(limited, f, h, bundle.Look{})
	if ctx.Err() != nil || errors.Is(err, errWanted) {
		return
	}

	text := ""
	if err != nil && !push.IsAway(err) { // that it is away is in status
		b, _ := f.Bundle(host)
		text = l.Reveal(limited, err, host, b)
	}
	if l.State.isNews(host, text) {
		l.Log.Warn("host can't be looked at", "host", host, "err", text)
	}
}

// Again looks at a host that was looked at before, since what that look found is likely to be another now.
func (l Looker) Again(ctx context.Context, host string) {
	was, ok := l.History.Looks().Last(host)
	wasLookedAt := ok && !was.IsOfRun()
	if wasLookedAt && l.every() > 0 {
		l.byClock(ctx, host)
	}
}

// A sight is what a look at one host came to.
type sight struct {
	seen   *bundle.Seen  // nil: the helper there can't look
	bundle *fleet.Bundle // of the generation there; nil when it was not asked for, or can't be had
}

// errWanted says that a look gave way to a push of its host.
var errWanted = errors.New("a run is at work on the host, or began meanwhile")

// at looks at one host, in one session, and has history remember what it found. With Contents in what, the
// bundle that the host holds comes along.
func (l Looker) at(ctx context.Context, f *fleet.Fleet, h *fleet.Host, what bundle.Look) (*sight, error) {
	found, err := l.session(ctx, f, h, what)
	if err != nil {
		return nil, err
	}

	if found.heal {
		last, _ := l.History.Host(h.Name)
		if _, err := l.Keys.Heal(ctx, h.Name, routes.To(f, h, last.Arch, true), false); err != nil {
			return nil, err
		}
	}

	return &found.sight, nil
}

// A looked is what one session came to.
type looked struct {
	sight
	heal bool // keys of the host are to be put back
}

func (l Looker) session(ctx context.Context, f *fleet.Fleet, h *fleet.Host, what bundle.Look) (*looked, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release, ok := l.Hosts.HoldIdle(h.Name, func() { cancel(errWanted) })
	if !ok {
		return nil, errWanted
	}
	defer release()

	found, err := l.ask(ctx, f, h, what)
	if err != nil && ctx.Err() != nil { // it was cut short, which tells nothing of the host
		return nil, context.Cause(ctx)
	}
	if err != nil || found.seen != nil && found.seen.Working { // else the look that was stored says so
		l.NoteAnswer(h.Name, err)
	}

	return found, err
}

func (l Looker) ask(ctx context.Context, f *fleet.Fleet, h *fleet.Host, what bundle.Look) (*looked, error) {
	was, _ := l.History.Host(h.Name)
	s, seen, err := l.Pusher().Look(ctx, routes.To(f, h, was.Arch, was.HasKeys()), what)
	if errors.Is(err, push.ErrCannotLook) { // its record was heard all the same
		defer s.Close()
		if err := l.Correct(ctx, f, h.Name, &s.Hello); err != nil {
			return nil, err
		}
		return &looked{}, l.History.Looks().Store(ctx, h.Name, looks.Look{At: time.Now(), Unknown: true})
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return l.take(ctx, f, h, s, seen, what)
}

// take makes of what a host showed what is remembered, and what the caller asked for.
func (l Looker) take(ctx context.Context, f *fleet.Fleet, h *fleet.Host, s *push.Session, seen *bundle.HostSeen, what bundle.Look) (*looked, error) {
	d := l.Contact
	was, _ := d.History.Host(h.Name)
	if err := d.Correct(ctx, f, h.Name, &s.Hello); err != nil {
		return nil, err
	}

	b, _ := f.Bundle(h.Name) // refused or not, the host holds what it held
	filter := l.filter(ctx, h.Name, b)
	defer filter.Drop()
	found := &looked{sight: sight{seen: wire.FilterSeen(seen, filter.Text)}}
	if len(what.Contents) > 0 && s.Hello.Record != nil {
		found.bundle, _ = d.Archive().BundleOnHost(ctx, h.Name, s.Hello.Record)
	}
	if found.seen.Working {
		return found, nil
	}

	isOurs := s.Hello.Record != nil && s.Hello.Record.Deployer.Is(d.ID)
	sameBoot := seen.BootID.Is(was.BootID)
	lostKeys := len(seen.KeysMissing) > 0 || !sameBoot && was.HasKeys()
	found.heal = isOurs && lostKeys
	if !sameBoot && !was.HasKeys() {
		if err := l.Keys.Note(h.Name, filter.Word(seen.BootID), 0); err != nil {
			return nil, err
		}
	}

	return found, d.History.Looks().Store(ctx, h.Name, lookOf(found.seen))
}

// lookOf is what history keeps of what a look saw.
func lookOf(seen *bundle.Seen) looks.Look {
	look := looks.Look{At: time.Now(), RebootRequired: seen.RebootRequired, Running: seen.Running, Drifted: seen.DriftCount()}
	for _, u := range seen.FailedUnits {
		look.Failed = append(look.Failed, failedUnit(u))
	}
	if len(seen.Units) > 0 {
		look.Units = make(map[string]string, len(seen.Units))
	}
	for _, u := range seen.Units {
		look.Units[u.Name] = looks.UnitWord(look.Units[u.Name], u.Active, u.Sub)
	}
	for _, one := range seen.Drift[:min(len(seen.Drift), looks.KeepDrift)] {
		look.Drift = append(look.Drift, looks.Drift{Kind: one.Kind, Name: one.Name, What: one.What})
	}

	return look
}

func failedUnit(u bundle.FailedUnit) looks.FailedUnit {
	f := looks.FailedUnit{Name: u.Name, Result: u.Result}
	if u.Since > 0 {
		at := time.Unix(u.Since, 0).UTC()
		f.Since = &at
	}
	return f
}

// filter is the filter of what a look at a host saw. What the deployer gave the host by name passes it
// unread, so that a host where all is well costs no key that is opened.
func (l Looker) filter(ctx context.Context, host string, b *fleet.Bundle) *push.Filter {
	last, _ := l.History.Host(host)
	said := slices.Concat([]string{last.BootID}, driftWords)
	if m, _, err := l.History.Manifest(host); err == nil && m != nil {
		said = append(said, namesOf(m)...)
	}
	return l.Pusher().NewFilter(said, push.KeysOf(b), l.Archive().FormerKeys(ctx, host, b))
}

// driftWords are those of a look's protocol, and results of units that systemd has names for.
var driftWords = []string{
	bundle.KindFile, bundle.KindDir, bundle.KindLink, bundle.KindUnit, bundle.KindPackage, bundle.KindAccount, bundle.KindSystem, bundle.KindContainer,
	bundle.DriftMissing, bundle.DriftChanged, bundle.DriftReplaced, bundle.DriftMode, bundle.DriftOwner, bundle.DriftGroup, bundle.DriftHome,
	bundle.DriftBarred, bundle.DriftStopped, bundle.DriftDisabled, bundle.DriftMasked, bundle.DriftDropIn, bundle.DriftProfile,
	bundle.WhyNotOwned, bundle.WhyKey, bundle.WhyMissing, bundle.WhyNotRegular, bundle.WhyTooLarge, bundle.WhyWorking,
	"exit-code", "signal", "core-dump", "timeout", "watchdog", "start-limit-hit", "oom-kill", "resources", "protocol", "exec-condition",
	"exited", "dead", "unhealthy", "restarting", "created", "removing", "healthy", "starting", "paused", // of containers
	"active", "inactive", "failed", "activating", "deactivating", "reloading", "running", "waiting", "listening", "start", "stop", "auto-restart", // of units
}

// namesOf are the names that a manifest gives to things.
func namesOf(m *bundle.Manifest) (names []string) {
	for _, f := range m.Files {
		names = append(names, f.Path)
	}
	for _, l := range m.Links {
		names = append(names, l.Path, l.Target)
	}
	for _, u := range m.Units {
		names = append(names, u.Name)
	}
	for _, p := range m.Packages {
		names = append(names, p.Name)
	}
	for _, u := range m.Users {
		names = append(names, u.Name, u.Group, u.Home)
	}
	for _, k := range m.Keys {
		names = append(names, k.Name)
	}

	return names
}

// shown is a text of bundle.Seen as one line for people.
func shown(text string) string { return plain.Line(text, 1<<10) }
