package lab_test

import (
	"net"
	"testing"

	"bellhop/internal/lab"
)

// The address of a host that is cut is given to nobody: it listens there again, however many ask for a port meanwhile.
func TestCutHostKeepsItsAddress(t *testing.T) {
	h, err := lab.Listen("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	h.Cut()

	// All ports that the kernel gives to who asks for any are about 28,000: so many tries would meet it.
	var others []net.Listener
	for range 2000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			break // the files of this process are used up
		}
		if others = append(others, l); l.Addr().String() == h.Address() {
			t.Error("somebody else was given the address")
		}
	}
	for _, l := range others {
		l.Close()
	}
	if err := h.Mend(); err != nil {
		t.Error(err)
	}
}
