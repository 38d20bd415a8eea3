// Package command runs a line of the config repo on a host, and says what came of it.
//
// A command runs in a transient unit of systemd, as its user, with the environment of a service, and
// is killed with all that it started when its time is over. The promise: a process that dies while
// its command runs finds it again, by the unit's mark, so that a command runs once.
package command

import (
	"context"
	"fmt"
	"time"

	"bellhop/internal/host/machine"
)

// How often a command is looked at: often at first, since most are short.
const (
	lookOften  = 5 * time.Millisecond
	lookSeldom = 200 * time.Millisecond
)

// endTime is how long a command may take to end once its time is over.
const endTime = 15 * time.Second

// From ofSystemd on a status is systemd's own: it could not start the command. noUser is that it knows
// no such user.
const (
	ofSystemd = 200
	noUser    = 217
)

// Run is Begin and Wait.
func Run(ctx context.Context, m machine.Commands, c machine.Command) (machine.CommandState, error) {
	if err := Begin(ctx, m, c); err != nil {
		return machine.CommandState{}, err
	}
	return Wait(ctx, m, c)
}

// Begin starts c, unless it runs or has ended already. What ran in its unit before, under another
// mark, is removed.
func Begin(ctx context.Context, m machine.Commands, c machine.Command) error {
	st, err := m.CommandState(ctx, c.Unit)
	if err != nil || st.Mark == c.Mark {
		return err
	}

	if st.Mark != "" {
		if err := m.Remove(ctx, c.Unit); err != nil {
			return err
		}
	}

	return m.Start(ctx, c)
}

// Wait waits until c has ended. Its unit stays until Remove, so that the caller can first write down
// what came of it. An error is that systemd can't be asked, or that ctx ended; c then goes on.
func Wait(ctx context.Context, m machine.Commands, c machine.Command) (machine.CommandState, error) {
	late := time.Now().Add(c.Timeout + endTime)
	for pause := lookOften; ; pause = min(2*pause, lookSeldom) {
		st, err := m.CommandState(ctx, c.Unit)
		switch {
		case err != nil:
			return st, err
		case st.Mark != c.Mark:
			return machine.CommandState{}, fmt.Errorf("%s is gone: somebody on the host stopped it", c.Unit)
		case !st.Running:
			return st, nil
		case time.Now().After(late):
			return st, fmt.Errorf("%s does not end, though its time is over", c.Unit)
		}

		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Wrong says what is wrong with how c ended; "" when it did well.
func Wrong(c machine.Command, st machine.CommandState) string {
	switch {
	case st.Result == "success":
		return ""
	case st.Result == "timeout":
		return fmt.Sprintf("it was not done within %v, and was killed", c.Timeout)
	case st.Exit.Signal == 0 && st.Exit.Status == noUser:
		return fmt.Sprintf("the host has no user %s", c.User)
	case st.Exit.Signal != 0, st.Exit.Status >= ofSystemd:
		return fmt.Sprintf("%s, %s", st.Result, st.Exit)
	case st.Exit.Status != 0:
		return fmt.Sprintf("exit status %d", st.Exit.Status)
	}
	return st.Result
}
