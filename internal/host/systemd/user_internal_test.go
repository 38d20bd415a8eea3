package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever listens at the socket of a user's systemd must be the user: another end is not spoken to.
func TestWhoListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	if err := isPeer(conn.(*net.UnixConn), os.Getuid()); err != nil {
		t.Error(err)
	}
	if err := isPeer(conn.(*net.UnixConn), os.Getuid()+1); err == nil || !strings.Contains(err.Error(), "listens there") {
		t.Errorf("another user's end gives %v", err)
	}
}

// What the other end says is read up to a limit.
func TestBoundedConnection(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		for range 100 {
			if _, err := there.Write(make([]byte, 10)); err != nil {
				return
			}
		}
	}()

	b, n := &bounded{Conn: here, left: 25}, 0
	for {
		got, err := b.Read(make([]byte, 8))
		n += got
		if err != nil {
			break
		}
	}
	if n != 25 {
		t.Errorf("%d bytes were read, want 25", n)
	}
}
