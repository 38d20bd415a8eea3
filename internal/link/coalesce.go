package link

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// What hosts say comes in small pieces: an answer, a frame, how a command ended. When many are at
// work each piece finds the process asleep, and to wake it costs several times what reading does.
// So while a crowd is at work its lines are read at a common beat, all that came since the last one
// at once, as network cards do with their interrupts. A few hosts, and lines where nothing runs,
// are read the moment something comes, and so are lines through a jump host.

const (
	beatCrowd = 16 // sessions at once that make a crowd
	beatEvery = 20 * time.Millisecond
	beatPause = 3        // beats at most between two looks at a line that is silent: what an answer may come later
	beatLooks = 16       // looks in silence after which a line is waited for again
	hushBytes = 32 << 10 // bytes that wake all the same: a part of any kernel's buffer
)

// beat is what the lines of a pool have in common.
type beat struct {
	sessions atomic.Int32 // that are at work
	wait     func()       // for next; nil: by the clock
}

// next waits until the nth beat from now.
func (b *beat) next(n int) {
	if b.wait != nil {
		b.wait()
		return
	}
	time.Sleep(time.Duration(n)*beatEvery - time.Duration(time.Now().UnixNano())%beatEvery)
}

// work counts a session that begins on c.
func (c *countedConn) work() {
	c.sessions.Add(1)
	c.beat.sessions.Add(1)
}

// rest counts one that ended.
func (c *countedConn) rest() {
	c.sessions.Add(-1)
	c.beat.sessions.Add(-1)
}

// atBeat reads what came up to a beat, without waiting for more. It returns neither bytes nor an error
// when the line is to be waited for: it is not one of a crowd, was silent for long, or is at its end.
func (c *countedConn) atBeat(p []byte) (n int, err error) {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return 0, nil
	}
	// What the last read left is there already.
	for i := 0; i < beatLooks && !c.more && c.sessions.Load() > 0 && c.beat.sessions.Load() >= beatCrowd; i++ {
		c.hush(tcp, true)
		c.beat.next(min(i+1, beatPause))
		raw, err := tcp.SyscallConn()
		if err != nil {
			break // closed, as the next plain read tells
		}
		var why error
		err = raw.Read(func(fd uintptr) bool {
			n, why = syscall.Read(int(fd), p)
			return true
		})
		switch {
		case err == nil && why == nil && n > 0:
			return n, nil
		case err == nil && why != nil && why != syscall.EAGAIN && why != syscall.EINTR:
			return 0, &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", why)} // the kernel tells it once
		}
		if n = 0; err != nil || why == nil {
			break
		}
	}
	c.hush(tcp, false)
	return 0, nil
}

// hush has the kernel wake nobody for the little that comes on a line which is read at a beat; much,
// and its end, wake always. Before a line is waited for that must be undone.
func (c *countedConn) hush(tcp *net.TCPConn, on bool) {
	if c.hushed == on {
		return
	}
	c.hushed = on
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	least := 1
	if on {
		least = hushBytes
	}
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, least)
	})
}
