package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/check"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/nixsystem"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/state"
)

// A session is one conversation with a deployer.
type session struct {
	m    state.Dir
	in   *wire.Reader
	out  io.Writer
	kept *os.File         // the staging folder of a run that nothing was staged for
	held bytes.Buffer     // frames that wait to go out in one write, which over SSH is a packet
	at   int64            // when it began, nanoseconds since boot
	now  state.Generation // as read last
	read os.FileInfo      // of the record then; nil when there was none
}

// current is the machine's, read again only when the record is another.
func (s *session) current() (state.Generation, error) {
	info, err := os.Stat(s.m.At(bundle.RecordPath))
	if known := err == nil && s.read != nil; known && sameRecord(info, s.read) {
		return s.now, nil
	}

	s.read = info
	if s.now, err = s.m.Current(); err != nil {
		s.read = nil
	}

	return s.now, err
}

// sameRecord says that the record was not replaced between two looks: each one is a file of its own.
func sameRecord(is, was os.FileInfo) bool {
	return os.SameFile(is, was) && is.ModTime().Equal(was.ModTime())
}

// say sends a frame, and what was held before it.
func (s *session) say(kind byte, v any) error {
	if err := wire.WriteFrame(&s.held, kind, v); err != nil {
		return err
	}
	return s.flush()
}

func (s *session) flush() error {
	if s.held.Len() == 0 {
		return nil
	}
	_, err := s.held.WriteTo(s.out)
	return err
}

// Serve is the side behind the SSH channel: Magic, Hello, then one Offer or one Ask. An open
// journal that nobody works on is settled first, so that Hello has the result.
func Serve(ctx context.Context, m *machine.Machine, in io.Reader, out io.Writer) error {
	return serve(ctx, m, in, out, false)
}

// ServeOptimistic is Serve for a deployer that sends its offer with the command that starts the helper
// (an optimistic send). Hello then comes after the offer was read.
func ServeOptimistic(ctx context.Context, m *machine.Machine, in io.Reader, out io.Writer) error {
	return serve(ctx, m, in, out, true)
}

func serve(ctx context.Context, on *machine.Machine, in io.Reader, out io.Writer, optimistic bool) error {
	m := state.Of(on)
	s := &session{m: m, in: wire.NewReader(in), out: out, at: state.SinceBoot()}
	if err := m.Make(); err != nil {
		return err
	}
	defer func() {
		if s.kept != nil {
			s.kept.Close()
		}
	}()

	first, unsettled, err := s.begun(ctx, optimistic)
	if err == io.EOF {
		return nil // it only wanted to know
	}
	if err != nil {
		return err
	}

	switch first.kind {
	case bundle.FrameManifest, bundle.FrameDelta, bundle.FrameOffer:
		o, err := s.in.Offer(first.kind, first.payload)
		if err != nil {
			return err
		}
		if unsettled != nil {
			return s.result(&bundle.Result{Run: o.Run, Outcome: bundle.OutcomeFailed, Error: unsettled.Error()})
		}
		return s.offer(ctx, &o)
	case bundle.FrameAsk:
		a, err := first.ask()
		if err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		return s.ask(ctx, a)
	}

	return fmt.Errorf("frame %q came where an offer belongs", first.kind)
}

// A frame is one that was read.
type frame struct {
	kind    byte
	payload []byte
}

func (f frame) ask() (a bundle.Ask, err error) {
	err = bundle.Unmarshal(f.payload, &a)
	return a, err
}

// isLook says that f asks for a look.
func (f frame) isLook() bool {
	if f.kind != bundle.FrameAsk {
		return false
	}
	a, err := f.ask()
	return err == nil && a.Verb == bundle.AskLook
}

// begun says hello and reads what the deployer says first; io.EOF when that is nothing. What is open on the
// host is settled before hello, unless a deployer that speaks first only wants to look. unsettled is why it
// could not be settled.
func (s *session) begun(ctx context.Context, optimistic bool) (first frame, unsettled, err error) {
	if optimistic {
		first.kind, first.payload, err = s.in.Next()
	}
	if !first.isLook() {
		unsettled = host.Settle(ctx, s.m.Machine)
	}

	if optimistic {
		if err == nil {
			// Before anything else: a deployer that gets no Hello knows that nothing was begun, and a
			// connection that is gone ends the session here.
			err = s.hello(ctx, true)
		}
		return first, unsettled, err
	}

	if err := s.hello(ctx, false); err != nil {
		return first, unsettled, err
	}
	first.kind, first.payload, err = s.in.Next()
	return first, unsettled, err
}

// hello says who this is, and what the host holds. After an optimistic send it is brief: the states of
// the keys come with the result, and the result before that is none of its run.
func (s *session) hello(ctx context.Context, brief bool) error {
	now, err := s.current()
	if err != nil {
		return err
	}

	h := bundle.Hello{Protocol: bundle.Protocol, Digest: ownDigest(), Arch: runtime.GOARCH, NixOS: s.m.NixOS(), System: nixsystem.State(s.m.Machine), Looks: true}
	if last := s.m.Runs().Last(); !brief { // which sweeps, either way
		h.Last = last
	}
	if h.BootID, err = s.m.BootID(); err != nil {
		return err
	}
	if id, err := os.ReadFile(s.m.At("/etc/machine-id")); err == nil {
		h.Machine = bundle.MachineDigest(string(id))
	}
	if h.Systemd, err = s.m.Systemd.Version(ctx); err != nil {
		return fmt.Errorf("ask systemd: %w", err)
	}
	if now.Exists {
		h.Record = &now.Record
		if !brief {
			h.Keys = keyfiles.Of(s.m).States(ctx, &now)
		}
	}
	if len(now.Manifest.Keys) > 0 {
		kind, err := s.m.Mounts.Keys(ctx)
		h.RAMFS = err == nil && kind == "ramfs"
		h.SwapClear = !h.RAMFS && s.m.Mounts.SwapClear()
	}
	if j, err := s.m.ReadJournal(); err == nil && j != nil {
		h.Open, h.Waits = j.Run, confirm.Waits(s.m.Runs().Folder(j.Run))
	}

	s.held.WriteString(bundle.Magic)
	h.At = time.Now().UnixMilli() // last: the deployer takes it for the time at which it hears this
	return s.say(bundle.FrameHello, h)
}

func (s *session) result(res *bundle.Result) error {
	return s.say(bundle.FrameResult, res)
}

// offer reads what the host should hold, and either refuses, or asks for what is missing and
// makes it so.
func (s *session) offer(ctx context.Context, o *bundle.Offer) error {
	if o.Delta != nil {
		if err := s.applyDelta(o); err != nil {
			return s.refuse(o.Run, err)
		}
	}

	o.Manifest = o.Manifest.WithoutKeyDigests()
	o.Manifest.Sort()
	if o.Last != nil {
		last := o.Last.WithoutKeyDigests()
		last.Sort()
		o.Last = &last
	}
	if err := check.Offer(o); err != nil {
		return s.refuse(o.Run, check.Refuse(bundle.RefusedBundle, "offer: %w", err))
	}
	if err := s.first(o); err != nil {
		return s.refuse(o.Run, err)
	}
	if err := plan.CheckSealing(ctx, s.m, o); err != nil {
		return s.refuse(o.Run, err)
	}

	st, err := newStage(s.m, o, s.at)
	var no *check.Refusal
	if errors.As(err, &no) {
		return s.refuse(o.Run, err)
	}
	if err != nil {
		return s.refuse(o.Run, fmt.Errorf("make room for what will be sent: %w", err))
	}
	defer st.close()

	want, err := st.want(ctx)
	if err != nil {
		return s.refuse(o.Run, err)
	}

	err = st.receiveUnasked(s.in, want)
	if err == nil && !(o.Go && len(want.Files)+len(want.Packages)+len(o.Manifest.Keys) == 0) {
		if err = s.say(bundle.FrameWant, want); err == nil {
			err = st.receive(s.in)
		}
	}
	if err != nil {
		st.drop()
		if st.writeErr != nil {
			return s.refuse(o.Run, err)
		}
		return err
	}
	if !st.came { // what came is to be put in place, so there is work
		res, err := s.quick(ctx, o, st.id)
		if res != nil || err != nil {
			st.drop()
			if err != nil {
				return s.refuse(o.Run, err)
			}
			return s.result(res)
		}
	}
	if err := s.begin(ctx, state.Order{Offer: *o}, st); err != nil {
		st.drop()
		return s.refuse(o.Run, err)
	}

	return s.tail(ctx, o.Run)
}

// applyDelta makes the offer's manifest of the current one.
func (s *session) applyDelta(o *bundle.Offer) error {
	now, err := s.current()
	if err != nil {
		return err
	}

	m, err := o.Delta.Apply(now.Manifest)
	if errors.Is(err, bundle.ErrDelta) {
		return check.Refuse(bundle.RefusedBase, "%w", err)
	}
	if err != nil {
		return check.Refuse(bundle.RefusedBundle, "%w", err)
	}

	m.Host = o.Manifest.Host
	o.Manifest, o.Delta = m, nil
	return nil
}

// first is what can be refused before a byte travels.
func (s *session) first(o *bundle.Offer) error {
	unlock, err := s.m.Lock(momentary)
	if errors.Is(err, machine.ErrBusy) {
		return s.busy(err)
	}
	if err != nil {
		return err
	}

	unlock()
	res, err := s.m.Runs().Result(o.Run)
	if err != nil {
		return err
	}
	if res != nil && res.Outcome != bundle.OutcomeRefused {
		return check.Refuse(bundle.RefusedBusy, "run %s has been here already", o.Run)
	}

	now, err := s.current()
	if err != nil {
		return err
	}

	return state.CheckBase(o, now)
}

// momentary is longer than other sessions hold the lock to look around, and not to work.
const momentary = 200 * time.Millisecond

// busy refuses an offer while another run is at work.
func (s *session) busy(err error) error {
	if run := host.WaitingRun(s.m); run != "" {
		return check.Refuse(bundle.RefusedBusy, "%w: run %s is applied, and waits for its deployer to confirm it", err, run)
	}
	return check.Refuse(bundle.RefusedBusy, "%w", err)
}

func (s *session) refuse(run string, err error) error {
	res := &bundle.Result{Run: run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBundle, Error: err.Error()}
	var no *check.Refusal
	if errors.As(err, &no) {
		res.Refused, res.Failing, res.Evidence = no.Why, no.Services, no.Seen
	} else {
		res.Outcome, res.Refused = bundle.OutcomeFailed, ""
	}
	if now, err := s.m.Current(); err == nil && now.Exists {
		res.Record = &now.Record
	}

	return s.result(res)
}
