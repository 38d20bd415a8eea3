package link

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// A Shell is a person at a terminal, or a script, that works on a host as its login user.
type Shell struct {
	Command  string // "" is a login shell
	Terminal bool   // ask for a terminal; implied for a login shell when In is one
	In       *os.File
	Out, Err io.Writer
}

// Shell runs sh on t as the target's user, without sudo, and returns the remote's exit
// code. With a terminal, keys pass unread and the window's size follows.
func (p *Pool) Shell(ctx context.Context, t Target, sh Shell) (int, error) {
	wantsTerminal := sh.Terminal || sh.Command == ""
	fd, atTerminal := 0, false
	if wantsTerminal && sh.In != nil {
		fd = int(sh.In.Fd())
		atTerminal = term.IsTerminal(fd)
	}

	var pty *ptyRequest
	if atTerminal || sh.Terminal {
		pty = &ptyRequest{term: cmp.Or(os.Getenv("TERM"), "xterm"), width: 80, height: 24}
		if atTerminal {
			if w, h, err := term.GetSize(fd); err == nil {
				pty.width, pty.height = w, h
			}
		}
	}

	s, err := p.begin(ctx, t, command{line: sh.Command, pty: pty}, orDiscard(sh.Err))
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if atTerminal {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return 0, err
		}
		defer term.Restore(fd, old)
		defer s.followWindow(fd)()
	}

	if sh.In != nil {
		go s.feed(sh.In)
	} else {
		s.CloseWrite()
	}

	if _, err := io.CopyBuffer(orDiscard(sh.Out), readerOnly{s}, make([]byte, 32<<10)); err != nil {
		return 0, err
	}

	return s.Wait()
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}

	return w
}

// followWindow sends the host the size of the window when it changes, until stop is called.
func (s *Session) followWindow(fd int) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for range changed {
			if w, h, err := term.GetSize(fd); err == nil {
				s.ch.SendRequest("window-change", false, ssh.Marshal(struct{ Columns, Rows, W, H uint32 }{uint32(w), uint32(h), 0, 0}))
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(changed)
	}
}
