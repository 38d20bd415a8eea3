package nixsystem

import (
	"context"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/command"
	"bellhop/internal/host/machine"
)

// Unit is the transient unit in which programs of Nix and switch-to-configuration run.
const Unit = "bellhop-nixos.service"

// nixTime is how long a program of Nix may take, which only looks and makes links.
const nixTime = 2 * time.Minute

// environment is that of nixos-rebuild: a unit of systemd has no PATH of the system, and Nix wants a
// home.
const environment = `export PATH=/run/current-system/sw/bin:/run/wrappers/bin:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LOCALE_ARCHIVE=/run/current-system/sw/lib/locale/locale-archive
`

// commands runs programs for one run.
type commands struct {
	m   *machine.Machine
	run string
}

// nix runs a program of Nix.
func (c commands) nix(ctx context.Context, text string) (machine.CommandState, error) {
	return c.do(ctx, machine.Command{Text: environment + "exec " + text, Timeout: nixTime, Mark: c.mark(text), Quiet: true})
}

// switchTo runs switch-to-configuration of a system.
func (c commands) switchTo(ctx context.Context, system, verb string) (machine.CommandState, error) {
	text := system + "/bin/switch-to-configuration " + verb
	return c.do(ctx, machine.Command{Text: environment + "exec " + text, Timeout: bundle.MaxStart, Mark: c.mark(text)})
}

func (c commands) mark(text string) string { return fmt.Sprintf("bellhop: %s, run %s", text, c.run) }

// do runs a command, and forgets its unit. What it said is in the journal of systemd.
func (c commands) do(ctx context.Context, what machine.Command) (machine.CommandState, error) {
	what.Unit = Unit
	st, err := command.Run(ctx, c.m.Commands, what)
	if err != nil {
		return st, fmt.Errorf("%s: %w", what.Mark, err)
	}
	return st, c.m.Commands.Remove(ctx, Unit)
}

// end kills what a process that died left at work.
func (c commands) end(ctx context.Context) error { return c.m.Commands.Remove(ctx, Unit) }

// must is nix, whose failing is an error.
func (c commands) must(ctx context.Context, text string) error {
	st, err := c.nix(ctx, text)
	if err != nil {
		return err
	}
	if st.Result != "success" {
		return fmt.Errorf("%s: %s (what it said: journalctl -u %s)", text, ended(st), Unit)
	}
	return nil
}

// ended says how a command ended that did not do well.
func ended(st machine.CommandState) string {
	if st.Exit.Signal == 0 && st.Exit.Status != 0 {
		return fmt.Sprintf("exit status %d", st.Exit.Status)
	}
	return st.Result
}
