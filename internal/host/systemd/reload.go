package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// busPatience bounds the greeting of a bus daemon, which is there before it answers.
const busPatience = 2 * time.Second

// Reload is daemon-reload.
//
// After one, systemd tells everybody at its private socket of each unit, with all properties: hundreds of
// kilobytes for each connection, and it answers the call after that. Those on the bus are told only if they
// asked to. So the own connection is given up, and the call goes over the bus where that is up; in early
// boot, or without a bus daemon, it goes over the private socket.
func (s *Systemd) Reload(ctx context.Context) error {
	if s.uid != 0 {
		return s.reloadUser(ctx)
	}
	if s.busIsUp(ctx) {
		s.Close()
		if reloadOverBus(ctx) == nil {
			return nil
		}
	}
	if err := s.again(ctx, func(c *dbus.Conn) error { return c.ReloadContext(ctx) }); err != nil {
		return fmt.Errorf("daemon-reload: %w", err)
	}

	return nil
}

// busIsUp says that a bus daemon runs. Its socket takes connections before it does, and in early boot
// nobody would answer there until this process has ended.
func (s *Systemd) busIsUp(ctx context.Context) (up bool) {
	s.again(ctx, func(c *dbus.Conn) error {
		p, err := c.GetUnitPropertyContext(ctx, "dbus.service", "ActiveState")
		if err == nil {
			up = p.Value.Value() == "active"
		}
		return err
	})
	return up
}

// reloadOverBus asks for a daemon-reload over a connection that is made for it. An error may come after
// the reload was done: to ask again does no harm.
func reloadOverBus(ctx context.Context) error {
	conn, err := godbus.SystemBusPrivate()
	if err != nil {
		return err
	}
	defer conn.Close()

	greeted := time.AfterFunc(busPatience, func() { conn.Close() })
	if err := conn.Auth(nil); err != nil {
		return err
	}
	if err := conn.Hello(); err != nil {
		return err
	}
	if !greeted.Stop() {
		return context.DeadlineExceeded
	}

	manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	return manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.Reload", 0).Err
}
