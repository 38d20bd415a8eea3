package server

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peer asks the kernel who is at the other end of a unix socket.
func peer(c net.Conn) (Caller, error) {
	who, err := peerUID(c)
	if err != nil {
		return who, err
	}
	return named(who), nil
}

// peerUID is peer without the name, which may take a look into a file.
func peerUID(c net.Conn) (Caller, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, fmt.Errorf("%T is no unix socket", c)
	}

	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, err
	}

	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Caller{}, err
	}
	if cerr != nil {
		return Caller{}, cerr
	}

	return Caller{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
