package machine

import (
	"context"
	"time"
)

// A Command is a line of the config repo that is run on the host.
type Command struct {
	// Unit is the transient unit that it runs in, such as bellhop-before-bot.service. There is one of
	// a name at a time.
	Unit string
	// Mark tells this command from any other that ran in Unit: one line, for people too.
	Mark    string
	Text    string // for /bin/sh
	User    string // "": root
	Timeout time.Duration
	Quiet   bool // systemd writes nothing to the journal of its start and end
}

// A CommandState is how the command in a unit does.
type CommandState struct {
	Mark       string // of the command; "": there is no such unit
	Running    bool
	Result     string // once it has ended: success, exit-code, signal, timeout, …
	Exit       Exit
	Invocation string // of the unit, hex
}

// Commands runs commands in transient units, so that they outlive the process that started them, and
// end with all that they started.
type Commands interface {
	// Start starts a command, and returns when systemd has it. Its environment is what systemd gives
	// to a service of that user, and its output goes to the journal. After its timeout all of it is
	// killed.
	Start(ctx context.Context, c Command) error
	// CommandState reads how it does. A command that has ended stays known until Remove.
	CommandState(ctx context.Context, unit string) (CommandState, error)
	// Remove kills what runs in the unit, and forgets it.
	Remove(ctx context.Context, unit string) error
}
