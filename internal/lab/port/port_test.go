package port_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"bellhop/internal/lab/port"
)

// A port that is reserved refuses connections, may be listened on again and again, and is nobody else's.
func TestReservedPort(t *testing.T) {
	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer release()

	for range 3 {
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("a connection to it: %v, %v; want it refused", c, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
}
