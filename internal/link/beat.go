package link

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// What hosts say comes in small pieces: an answer, a frame, how a command ended. When many are at
// work each piece finds the process asleep, and to wake it costs several times what reading does.
// So while a crowd is at work its lines are read at a common beat, all that came since the last one
// at once, as network cards do with their interrupts. A few hosts, and lines where nothing runs,
// are read the moment something comes.

const (
	beatCrowd = 16                    // sessions at once that make a crowd
	beatEvery = 10 * time.Millisecond // what an answer may come later for it
	beatCount = 32                    // beats in silence after which a line is waited for again
)

// beat is what the lines of a pool have in common.
type beat struct {
	sessions atomic.Int32 // that are at work
	wait     func()       // until the next beat; nil: by the clock
}

func (b *beat) next() {
	if b.wait != nil {
		b.wait()
		return
	}
	time.Sleep(beatEvery - time.Duration(time.Now().UnixNano())%beatEvery)
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

// atBeat reads what came up to a beat, without waiting for more. n is 0 when the line is to be waited
// for: it is not one of a crowd, was silent for long, or its end is near.
func (c *countedConn) atBeat(p []byte) (n int) {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok || c.more { // what was left by the last read is there already
		return 0
	}
	for range beatCount {
		if c.sessions.Load() == 0 || c.beat.sessions.Load() < beatCrowd {
			return 0
		}
		c.beat.next()
		raw, err := tcp.SyscallConn()
		if err != nil {
			return 0
		}
		var why error
		err = raw.Read(func(fd uintptr) bool {
			n, why = syscall.Read(int(fd), p)
			return true
		})
		switch {
		case err != nil, why != nil && why != syscall.EAGAIN && why != syscall.EINTR, why == nil && n == 0:
			return 0 // the next plain read tells
		case why == nil:
			return n
		}
	}
	return 0
}
