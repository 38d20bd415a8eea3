package link

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Read coalescing, for pushes to many hosts at once. BenchmarkRatioFleet: with 300 hosts a push takes 13 %
// more processor time without it (219 against 193 ms, medians of seven, alternating). What hosts say comes in small pieces: an answer, a frame, how
// a command ended. With many hosts at work each piece finds the process asleep, and waking it
// costs several times what reading does. So from minCrowd sessions on, all connections are read
// together every readEvery, as network cards coalesce interrupts. Fewer hosts, connections where
// nothing runs, and those through a jump host are read the moment something comes.

const (
	minCrowd  = 16 // sessions at once from which reads are coalesced
	readEvery = 20 * time.Millisecond
	maxPause  = 3        // ticks at most between two reads of a silent connection
	maxLooks  = 16       // silent reads after which a connection is waited for again
	wakeBytes = 32 << 10 // bytes that wake the process all the same: a part of any kernel's buffer
)

// A coalescer is what the connections of a pool have in common.
type coalescer struct {
	sessions atomic.Int32 // that are at work
	wait     func()       // for next; nil: by the clock
}

// next waits until the nth tick from now.
func (b *coalescer) next(n int) {
	if b.wait != nil {
		b.wait()
		return
	}

	time.Sleep(time.Duration(n)*readEvery - time.Duration(time.Now().UnixNano())%readEvery)
}

// work counts a session that begins on c.
func (c *countedConn) work() {
	c.sessions.Add(1)
	c.coalescer.sessions.Add(1)
}

// rest counts one that ended.
func (c *countedConn) rest() {
	c.sessions.Add(-1)
	c.coalescer.sessions.Add(-1)
}

// readCoalesced reads what came up to a tick, without waiting for more. It returns neither bytes
// nor an error when the connection is to be waited for: reads are not coalesced, it was silent for
// long, or it is at its end.
func (c *countedConn) readCoalesced(p []byte) (n int, err error) {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return 0, nil
	}
	// What the last read left is there already.
	for i := 0; i < maxLooks && c.isOneOfACrowd(); i++ {
		c.setLowWater(tcp, true)
		c.coalescer.next(min(i+1, maxPause))
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
		case err == nil && why != nil && !isNotYet(why):
			return 0, &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", why)} // the kernel tells it once
		}
		if n = 0; err != nil || why == nil {
			break
		}
	}

	c.setLowWater(tcp, false)
	return 0, nil
}

// isOneOfACrowd says whether reads of the connection are coalesced now.
func (c *countedConn) isOneOfACrowd() bool {
	isAtWork := c.sessions.Load() > 0 && !c.more
	return isAtWork && c.coalescer.sessions.Load() >= minCrowd
}

func isNotYet(err error) bool { return err == syscall.EAGAIN || err == syscall.EINTR }

// setLowWater has the kernel wake nobody for less than wakeBytes on a connection that is read at
// ticks; more than that, and its end, wake always. It must be undone before the connection is
// waited for.
func (c *countedConn) setLowWater(tcp *net.TCPConn, on bool) {
	if c.coalescing == on {
		return
	}

	c.coalescing = on
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}

	least := 1
	if on {
		least = wakeBytes
	}

	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, least)
	})
}
