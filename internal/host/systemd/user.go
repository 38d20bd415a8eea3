package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// maxFromUser is how many bytes a user's systemd may say over one connection: thousands of times what it
// says of the units that are asked about. Whoever is the user may have put a program of his own there.
const maxFromUser = 64 << 20

// ErrNotRunning says that a user has no systemd that runs.
var ErrNotRunning = errors.New("the user's own systemd does not run")

// OfUser connects to the systemd of the user who has uid, at its private socket. Steps and the transient unit
// of a run are not for it.
func OfUser(ctx context.Context, uid int) (*Systemd, error) {
	if uid <= 0 {
		return nil, fmt.Errorf("uid %d has no systemd of its own", uid)
	}
	if _, err := os.Lstat(userSocket(uid)); err != nil {
		return nil, ErrNotRunning
	}

	s := &Systemd{uid: uid}
	if err := s.Reach(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Reach connects anew where the connection was lost.
func (s *Systemd) Reach(ctx context.Context) error {
	_, err := s.connect(ctx)
	return err
}

func userSocket(uid int) string { return "/run/user/" + strconv.Itoa(uid) + "/systemd/private" }

// dialUser connects to the private socket of a user's systemd. The folder is the user's: a link there could
// lead to the host's systemd, which would then be asked about units of the same names. So no link is
// followed, and who listens must be the user.
func dialUser(uid int) (*dbus.Conn, error) {
	path := userSocket(uid)
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)

	conn, err := net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(fd))
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	if err := isPeer(conn.(*net.UnixConn), uid); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return greet(conn)
}

// isPeer says who else listens than the user.
func isPeer(conn *net.UnixConn, uid int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}

	var peer *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, asked); err != nil {
		return err
	}
	if peer.Uid != uint32(uid) {
		return fmt.Errorf("user %d listens there, and not user %d", peer.Uid, uid)
	}
	return nil
}

// greet speaks D-Bus over a connection.
func greet(conn net.Conn) (*dbus.Conn, error) {
	bus, err := godbus.NewConn(&bounded{Conn: conn, left: maxFromUser})
	if err != nil {
		conn.Close()
		return nil, err
	}

	greeted := make(chan error, 1)
	go func() { greeted <- bus.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}) }()
	ctx, cancel := context.WithTimeout(context.Background(), busPatience)
	defer cancel()
	select {
	case err = <-greeted:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		bus.Close()
		return nil, err
	}

	return dbus.NewConnection(func() (*godbus.Conn, error) { return bus, nil })
}

// bounded is a connection that ends once it has said too much. Only one goroutine reads.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("it says more than %d bytes: %w", maxFromUser, io.ErrUnexpectedEOF)
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// reloadUser is Reload of a user's systemd. Afterwards it tells of all its units on this connection, so that
// is given up.
func (s *Systemd) reloadUser(ctx context.Context) error {
	err := s.again(ctx, func(c *dbus.Conn) error { return c.ReloadContext(ctx) })
	s.Close()
	if err != nil {
		return fmt.Errorf("daemon-reload: %w", err)
	}
	return nil
}
