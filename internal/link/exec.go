package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bellhop/internal/plain"
)

// Exec runs cmd with /bin/sh as root, by sudo -n for other users, and returns its exit
// code. What the login shell prints by itself may come first. A nil stdin is empty, nil
// stdout and stderr are dropped.
func (p *Pool) Exec(ctx context.Context, t Target, cmd string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	head := &capped{max: 512}
	errs := io.Writer(head)
	if stderr != nil {
		errs = io.MultiWriter(stderr, head)
	}

	s, err := p.begin(ctx, t, command{line: ShellLine(cmd, t.sudo())}, errs)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if stdout == nil {
		stdout = io.Discard
	}

	go s.feed(stdin)
	if _, err := io.CopyBuffer(stdout, readerOnly{s}, make([]byte, 32<<10)); err != nil {
		return 0, err
	}

	code, err := s.Wait()
	if err == nil && t.sudo() && code != 0 {
		if why := SudoRefusal(head.String()); why != nil {
			return code, &Error{t.Name, ErrSudo, why}
		}
	}

	return code, err
}

// MaxOutput caps what Output takes from a host, which may be another's by now.
const MaxOutput = 8 << 20 // bytes

// Output is what cmd prints on a host, as Exec runs it, at most MaxOutput of it. A code other than 0 is an error with
// the first of what stderr says. Errors name the host where its answer is at fault.
func (p *Pool) Output(ctx context.Context, t Target, cmd string) (string, error) {
	var out bytes.Buffer
	errs := &capped{max: stderrCap}
	code, err := p.Exec(ctx, t, cmd, strings.NewReader(""), &limited{w: &out, left: MaxOutput}, &limited{w: errs, left: maxStderr})
	switch {
	case errors.Is(err, errTooMuch):
		return "", fmt.Errorf("%s: %w: more than %d MiB, or more than %d MiB of errors", t.Name, errTooMuch, MaxOutput>>20, maxStderr>>20)
	case err != nil:
		return "", err
	case code != 0:
		return "", fmt.Errorf("%s: %s", t.Name, plain.Line(errs.String(), plain.MaxLine))
	}
	return out.String(), nil
}

// readerOnly hides what else a reader can do from io.Copy, so that the buffer is ours.
type readerOnly struct{ io.Reader }

func (s *Session) feed(stdin io.Reader) {
	if stdin != nil {
		io.CopyBuffer(struct{ io.Writer }{s}, readerOnly{stdin}, make([]byte, 32<<10))
	}

	s.CloseWrite()
}

// ShellLine makes one line of script that any login shell (sh, csh, fish) hands to /bin/sh unread.
// What such a shell reads itself may not be in script: a newline, ! or a doubled backslash.
func ShellLine(script string, sudo bool) string {
	sh := "/bin/sh -c '" + strings.ReplaceAll(script, "'", `'\''`) + "'"
	if sudo {
		return "exec sudo -n -- " + sh
	}

	return "exec " + sh
}

// SudoRefusal recognises sudo's own refusals on stderr, and says what to do about each; nil for
// anything else.
func SudoRefusal(stderr string) error {
	at := strings.Index(stderr, "sudo:")
	switch {
	case strings.Contains(stderr, "sudo") && strings.Contains(stderr, "not found"):
		return errors.New("sudo is not installed: log in as root instead")
	case strings.Contains(stderr, "not in the sudoers file"), strings.Contains(stderr, "is not allowed to execute"), strings.Contains(stderr, "may not run sudo"):
		return errors.New("the user is not in sudoers: it needs a line like 'USER ALL=(root) NOPASSWD: ALL'")
	case at < 0:
		return nil
	case strings.Contains(stderr[at:], "tty"):
		return errors.New("sudo wants a terminal: take requiretty out of sudoers for this user")
	case strings.Contains(stderr[at:], "password is required"), strings.Contains(stderr[at:], "authentication is required"):
		return errors.New("sudo wants a password: the user needs NOPASSWD in sudoers")
	}

	return nil
}
