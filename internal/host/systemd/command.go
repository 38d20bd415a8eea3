package systemd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"bellhop/internal/host/machine"
)

// commandDir is where the texts of commands lie while they run. Arguments of a transient unit are
// parsed anew with each daemon-reload, and $ in them is replaced by systemd: a text that people wrote
// does not survive that, the path of a file does.
const commandDir = "/run/bellhop"

// endUSec is how long a command has between the first signal and the last, microseconds.
const endUSec = uint64(5 * time.Second / time.Microsecond)

var _ machine.Commands = (*Systemd)(nil)

// Start starts a command in its transient unit. The unit is of Type=oneshot with RemainAfterExit, so
// what came of it can be read until it is removed, by whoever asks.
func (s *Systemd) Start(ctx context.Context, c machine.Command) error {
	path, err := writeCommand(c)
	if err != nil {
		return err
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	// An older one that failed keeps the name.
	conn.ResetFailedUnitContext(ctx, c.Unit)
	if _, err := conn.StartTransientUnitContext(ctx, c.Unit, "fail", commandProps(c, path), nil); err != nil {
		return fmt.Errorf("start %s: %w", c.Unit, err)
	}
	return nil
}

// writeCommand leaves the text where /bin/sh of the command's user can read it.
func writeCommand(c machine.Command) (path string, err error) {
	if err := os.MkdirAll(commandDir, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(commandDir, 0o755); err != nil { // whoever made it, and under whatever umask
		return "", err
	}
	path = filepath.Join(commandDir, c.Unit+".sh")
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(c.Text+"\n"), 0o644)
}

func commandProps(c machine.Command, path string) []dbus.Property {
	props := []dbus.Property{
		dbus.PropDescription(c.Mark),
		dbus.PropType("oneshot"),
		dbus.PropRemainAfterExit(true),
		dbus.PropExecStart([]string{"/bin/sh", path}, false),
		{Name: "TimeoutStartUSec", Value: godbus.MakeVariant(uint64(max(c.Timeout, time.Millisecond) / time.Microsecond))},
		{Name: "TimeoutStopUSec", Value: godbus.MakeVariant(endUSec)},
		{Name: "SyslogIdentifier", Value: godbus.MakeVariant(unitStem(c.Unit))},
	}
	if c.User != "" && c.User != "root" {
		props = append(props, dbus.Property{Name: "User", Value: godbus.MakeVariant(c.User)})
	}
	if c.Quiet { // its own lines pass, at notice; systemd's "Starting" and "Finished" are info
		const notice = int32(5)
		props = append(props, dbus.Property{Name: "SyslogLevel", Value: godbus.MakeVariant(notice)},
			dbus.Property{Name: "LogLevelMax", Value: godbus.MakeVariant(notice)})
	}
	return props
}

func unitStem(unit string) string { return unit[:len(unit)-len(filepath.Ext(unit))] }

// CommandState reads the unit of a command.
func (s *Systemd) CommandState(ctx context.Context, unit string) (st machine.CommandState, err error) {
	err = s.again(ctx, func(c *dbus.Conn) error {
		u, err := read(ctx, c, unit)
		if err != nil || u.Load != "loaded" {
			return err
		}
		p, err := c.GetUnitPropertyContext(ctx, unit, "Description")
		if err != nil {
			return err
		}
		st = machine.CommandState{Result: u.Result, Exit: u.Exit, Invocation: u.Invocation}
		st.Mark, _ = p.Value.Value().(string)
		st.Running = u.Job || u.Active == "activating" || u.Active == "deactivating"
		return nil
	})
	if err != nil {
		return machine.CommandState{}, fmt.Errorf("read %s: %w", unit, err)
	}
	return st, nil
}

// Remove stops the unit of a command, with all that runs in it, and forgets how it failed.
func (s *Systemd) Remove(ctx context.Context, unit string) error {
	st, err := s.CommandState(ctx, unit)
	if err != nil {
		return err
	}
	if st.Mark != "" {
		if err := s.Job(ctx, "stop", []string{unit})[unit]; err != nil && !named(err, "NoSuchUnit") {
			return err
		}
		if err := s.ResetFailed(ctx, []string{unit}); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(commandDir, unit+".sh"))
}
