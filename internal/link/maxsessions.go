package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshd's MaxSessions may be lower than ours, down to 1. Then it refuses a session while others of
// ours run, and for a moment after one has ended, since sshd counts it until its shell is reaped.
// So a session that is refused waits until another has ended, and asks again for a little longer
// than reaping takes. Where no session was ever opened on the connection, and none is being opened,
// there is nothing to wait for.

const (
	askFirst = 10 * time.Millisecond // until the first question after the last session has ended
	askTries = 8                     // questions after that, each twice as late: 2.5 s
)

// openSession opens a channel for a session within wait, and waits for another to end where the
// host allows fewer sessions at once. serve is called with the requests that the host sends in it, such
// as how it ended.
func (c *conn) openSession(ctx context.Context, wait time.Duration, serve func(<-chan *ssh.Request)) (_ ssh.Channel, err error) {
	c.wire.work()
	defer func() {
		if err != nil {
			c.wire.rest()
		}
	}()
	for alone, ended := 0, false; ; {
		c.opening.Add(1)
		ch, err := c.openChannel(ctx, wait, "session", nil, serve)
		if err == nil {
			c.running.Add(1)
			c.hadSession.Store(true)
		}
		c.opening.Add(-1)
		var refused *ssh.OpenChannelError
		switch {
		case err == nil:
			return ch, nil
		case !errors.As(err, &refused):
			if ctx.Err() == nil {
				c.close(err)
			}
			return nil, fmt.Errorf("open a session: %w", err)
		case !c.hadSession.Load() && c.opening.Load() == 0, alone == askTries && c.running.Load() <= 0:
			return nil, there{fmt.Errorf("open a session: its sshd refuses one more (is MaxSessions low?): %w", err)}
		}
		var again <-chan time.Time
		if c.running.Load() <= 0 || ended && alone < askTries { // sshd may count one that has ended
			again = time.After(askFirst << alone)
			alone++
		}
		select {
		case <-again:
		case <-c.ends:
			alone, ended = 0, true
		case <-c.down:
			return nil, fmt.Errorf("open a session: %w", c.why)
		case <-ctx.Done():
			return nil, fmt.Errorf("open a session: others are at work, and sshd takes no more at once: %w", context.Cause(ctx))
		}
	}
}

// sessionEnded lets one session that waits ask again.
func (c *conn) sessionEnded() {
	c.wire.rest()
	c.running.Add(-1)
	select {
	case c.ends <- struct{}{}:
	default:
	}
}
