// Package systemd asks the service manager of a real host, over D-Bus.
//
// The private socket comes first: it is there in early boot, and a job's result arrives on it
// though the bus daemon restarts meanwhile. The system bus is the way back when it is refused.
// A job's result is waited for with a deadline; when the connection is lost, which a
// daemon-reexec does, it is made again and the unit's state is read instead. The promise:
// no call waits for a result that can never come, and state is truth. A daemon-reload goes over the
// system bus where that is up: see Reload.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/nameshape"
)

// Systemd implements host.Systemd. It connects at first use and again when the connection is
// lost, so it can be made in early boot and kept for the length of a run.
type Systemd struct {
	// Exec is the program that the transient unit runs, with the arguments that come before
	// "apply RUN". Empty: the running executable.
	Exec []string
	// Runtime makes Enable and Disable act below /run, where /etc can't be written.
	Runtime bool

	uid  int // of whose systemd it is; 0: the host's
	mu   sync.Mutex
	conn *dbus.Conn
}

var _ machine.Systemd = (*Systemd)(nil)

// New returns the host's service manager. It fails where there is none to talk to.
func New() (*Systemd, error) {
	s := &Systemd{}
	if _, err := s.connect(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the connection.
func (s *Systemd) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	return nil
}

// connect gives the connection, made anew when it is lost. The context bounds only the
// making: D-Bus would close the connection with it.
func (s *Systemd) connect(ctx context.Context) (*dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}

	var last error
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		conn, err := s.dial()
		if err == nil {
			s.conn = conn
			return conn, nil
		}

		last = err
		if wait > 200*time.Millisecond {
			return nil, fmt.Errorf("talk to systemd: %w", last)
		}

		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("talk to systemd: %w", errors.Join(ctx.Err(), last))
		case <-time.After(wait):
		}
	}
}

func (s *Systemd) dial() (*dbus.Conn, error) {
	if s.uid != 0 {
		return dialUser(s.uid)
	}

	conn, private := dialPrivate()
	if private == nil {
		return conn, nil
	}

	conn, err := dbus.NewSystemConnectionContext(context.Background())
	if err != nil {
		return nil, errors.Join(private, err)
	}
	// On the bus the manager sends signals to subscribers only.
	if err := conn.Subscribe(); err != nil {
		conn.Close()
		return nil, err
	}

	return conn, nil
}

// dialPrivate connects to the private socket once: go-systemd would take one connection for calls and one for
// signals, and systemd sends every signal to both. Nothing here makes calls from within a signal, which is
// what the two are for.
func dialPrivate() (*dbus.Conn, error) {
	conn, err := godbus.Dial("unix:path=/run/systemd/private")
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	return dbus.NewConnection(func() (*godbus.Conn, error) { return conn, nil })
}

// again does a call that may be repeated, once more when the connection was lost under it.
func (s *Systemd) again(ctx context.Context, do func(*dbus.Conn) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}

	err = do(conn)
	if err == nil || conn.Connected() || ctx.Err() != nil {
		return err
	}
	if conn, err = s.connect(ctx); err != nil {
		return err
	}

	return do(conn)
}

// Version is systemd's, 252 for "252.39-1~deb12u2".
func (s *Systemd) Version(ctx context.Context) (v int, err error) {
	err = s.again(ctx, func(c *dbus.Conn) error {
		text, err := c.GetManagerProperty("Version")
		if err == nil {
			v, err = strconv.Atoi(leadingNumber(text))
		}
		return err
	})

	if err != nil {
		return 0, fmt.Errorf("ask systemd its version: %w", err)
	}
	return v, nil
}

// leadingNumber are the first digits in text.
func leadingNumber(text string) string {
	isDigit := func(r rune) bool { return '0' <= r && r <= '9' }
	from := max(0, strings.IndexFunc(text, isDigit))
	rest := strings.TrimLeftFunc(text[from:], isDigit)
	return text[from : len(text)-len(rest)]
}

// Enable makes the links that [Install] asks for. A link of the unit's own name that leads to
// where its file was before is made anew; an alias that is another unit's is an error.
func (s *Systemd) Enable(ctx context.Context, names []string) error {
	for _, n := range names {
		err := s.again(ctx, func(c *dbus.Conn) error { return s.enable(ctx, c, n) })
		if err != nil {
			return fmt.Errorf("enable %s: %w", n, err)
		}
	}
	return nil
}

func (s *Systemd) enable(ctx context.Context, c *dbus.Conn, name string) error {
	_, _, err := c.EnableUnitFilesContext(ctx, []string{name}, s.Runtime, false)
	if err == nil || !strings.Contains(err.Error(), "exist") {
		return err
	}
	if _, err := c.DisableUnitFilesContext(ctx, []string{name}, s.Runtime); err != nil {
		return err
	}

	_, _, err = c.EnableUnitFilesContext(ctx, []string{name}, s.Runtime, false)
	return err
}

// Disable removes the links that enable these units. What has no file is not enabled.
func (s *Systemd) Disable(ctx context.Context, names []string) error {
	for _, n := range names {
		err := s.again(ctx, func(c *dbus.Conn) error {
			_, err := c.DisableUnitFilesContext(ctx, []string{n}, s.Runtime)
			return err
		})
		if err != nil && !named(err, "NoSuchUnit") && !strings.Contains(err.Error(), "does not exist") {
			return fmt.Errorf("disable %s: %w", n, err)
		}
	}
	return nil
}

// ResetFailed clears the failed state. A unit that is not loaded has none.
func (s *Systemd) ResetFailed(ctx context.Context, names []string) error {
	for _, n := range names {
		err := s.again(ctx, func(c *dbus.Conn) error { return c.ResetFailedUnitContext(ctx, n) })
		if err != nil && !named(err, "NoSuchUnit") {
			return fmt.Errorf("reset-failed %s: %w", n, err)
		}
	}
	return nil
}

// StartApply starts the transient unit that a run lives in. Its arguments are written to /run
// and parsed again by systemd, so a run id is plain letters, digits and dashes.
func (s *Systemd) StartApply(ctx context.Context, run string) error {
	if !runID.MatchString(run) {
		return fmt.Errorf("start %s: run id %q", bundle.ApplyUnit, run)
	}

	argv, err := s.exec()
	if err != nil {
		return err
	}

	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}

	props := []dbus.Property{
		dbus.PropDescription("bellhop deploys, run " + run),
		dbus.PropType("exec"),
		dbus.PropExecStart(append(argv, "apply", run), false),
		{Name: "Restart", Value: godbus.MakeVariant("on-failure")},
		{Name: "RestartUSec", Value: godbus.MakeVariant(uint64(100 * time.Millisecond / time.Microsecond))},
		// A run that can't be ended at all is left to the next contact, which settles it.
		{Name: "StartLimitIntervalUSec", Value: godbus.MakeVariant(uint64(time.Minute / time.Microsecond))},
		{Name: "StartLimitBurst", Value: godbus.MakeVariant(uint32(15))},
		// It holds the values of keys.
		{Name: "LimitCORE", Value: godbus.MakeVariant(uint64(0))},
		{Name: "LimitCORESoft", Value: godbus.MakeVariant(uint64(0))},
		{Name: "MemorySwapMax", Value: godbus.MakeVariant(uint64(0))},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}

	ch := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, bundle.ApplyUnit, "fail", props, ch)
	if named(err, "UnitExists") {
		return machine.ErrBusy
	}
	if err == nil {
		err = s.wait(ctx, conn, job{"start", bundle.ApplyUnit, ch})
	}

	var ended jobError
	if errors.As(err, &ended) { // of Type=exec: the program did not begin
		return fmt.Errorf("systemd could not run %s on the host, though a login could: does SELinux, AppArmor or a drop-in of %s forbid it? journalctl -u %s has its reason: %w",
			argv[0], bundle.ApplyUnit, strings.TrimSuffix(bundle.ApplyUnit, ".service"), err)
	}
	return err
}

var runID = nameshape.Of("a-z0-9-", 64)

func (s *Systemd) exec() ([]string, error) {
	if len(s.Exec) > 0 {
		return append([]string(nil), s.Exec...), nil
	}

	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the helper: %w", err)
	}
	return []string{exe}, nil
}

// named says whether err is systemd's error of that name.
func named(err error, name string) bool {
	var e godbus.Error
	return errors.As(err, &e) && strings.HasSuffix(e.Name, "."+name)
}
