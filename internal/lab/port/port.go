// Package port keeps a port for a test or the demo, so that nobody else is given it.
package port

import (
	"fmt"
	"os"
	"syscall"
)

// Reserve takes a port of 127.0.0.1 that is free until release is called: the kernel gives it to nobody who
// asks for any, a connection to it is refused, and who asks for it by its number may listen on it, as often as it likes.
func Reserve() (addr string, release func(), err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}

	release = func() { syscall.Close(fd) }
	addr, err = bindAny(fd)
	if err != nil {
		release()
		return "", nil, err
	}

	return addr, release, nil
}

// bindAny binds a socket, which will never listen. Two sockets with SO_REUSEADDR, as every listener of
// Go's has it, may have one port as long as at most one of them listens.
func bindAny(fd int) (string, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", os.NewSyscallError("bind", err)
	}

	at, err := syscall.Getsockname(fd)
	if err != nil {
		return "", os.NewSyscallError("getsockname", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port), nil
}
