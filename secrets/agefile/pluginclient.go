package agefile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"bellhop/internal/child"
	"bellhop/internal/plain"
)

// age's own plugin client runs whatever $PATH has, hands it the whole environment and waits for
// ever. This one speaks the same protocol (https://c2sp.org/age-plugin) to one program given by
// its absolute path, with a small environment, and ends it when its time is up.

// pluginLimit is how long a plugin may take: a person may have to find and touch a token.
const pluginLimit = 50 * time.Second

type pluginClient struct {
	name    string
	program string
	key     string // a recipient or an identity, as text
	ui      Plugins
}

// String keeps a plugin identity out of every print.
func (c *pluginClient) String() string   { return "plugin " + c.name }
func (c *pluginClient) GoString() string { return c.String() }

// Unwrap asks the plugin for the file key.
func (c *pluginClient) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	say := []*age.Stanza{{Type: "add-identity", Args: []string{c.key}}}
	for _, s := range stanzas {
		say = append(say, &age.Stanza{Type: "recipient-stanza", Args: append([]string{"0", s.Type}, s.Args...), Body: s.Body})
	}

	say = append(say, &age.Stanza{Type: "done"})
	var key []byte
	err := c.talk("identity-v1", say, func(s *age.Stanza) (bool, error) {
		isKey := s.Type == "file-key" && len(s.Args) == 1 && s.Args[0] == "0"
		if !isKey || key != nil {
			return false, nil
		}
		key = s.Body
		return true, nil
	})

	if err != nil {
		return nil, &pluginError{c.name, err, false}
	}
	if key == nil {
		return nil, age.ErrIncorrectIdentity
	}

	return key, nil
}

// Wrap asks the plugin to wrap the file key.
func (c *pluginClient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	ss, _, err := c.WrapWithLabels(fileKey)
	return ss, err
}

// WrapWithLabels is Wrap, with what the plugin says must not be mixed.
func (c *pluginClient) WrapWithLabels(fileKey []byte) (ss []*age.Stanza, labels []string, err error) {
	say := []*age.Stanza{
		{Type: "add-recipient", Args: []string{c.key}},
		{Type: "wrap-file-key", Body: fileKey},
		{Type: "extension-labels"},
		{Type: "done"},
	}

	err = c.talk("recipient-v1", say, func(s *age.Stanza) (bool, error) {
		switch {
		case s.Type == "labels":
			labels = s.Args
			return true, nil
		case s.Type == "recipient-stanza" && len(s.Args) >= 2 && s.Args[0] == "0":
			ss = append(ss, &age.Stanza{Type: s.Args[1], Args: s.Args[2:], Body: s.Body})
			return true, nil
		}
		return false, nil
	})

	if err == nil && len(ss) != 1 {
		err = fmt.Errorf("it made %d stanzas for one recipient", len(ss))
	}
	if err != nil {
		return nil, nil, &pluginError{c.name, err, false}
	}

	return ss, labels, nil
}

// talk runs the plugin for one exchange: we say everything, then answer until it is done.
func (c *pluginClient) talk(state string, say []*age.Stanza, take func(*age.Stanza) (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), pluginLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, "--age-plugin="+state)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = child.Env(child.Plugin)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return errors.New("it does not start")
	}

	err := c.exchange(in, bufio.NewReader(out), say, take)
	in.Close()
	if err != nil {
		cancel()
	}

	werr := cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it did not answer in %s", pluginLimit)
	case err != nil:
		return err
	case werr != nil:
		return errors.New("it failed")
	}

	return nil
}

func (c *pluginClient) exchange(in io.Writer, out *bufio.Reader, say []*age.Stanza, take func(*age.Stanza) (bool, error)) error {
	for _, s := range say {
		if err := writeStanza(in, s); err != nil {
			return errors.New("it stopped listening")
		}
	}

	for range 10_000 {
		s, err := readStanza(out)
		if err != nil {
			return errors.New("it stopped, or said what the protocol does not have")
		}
		if s.Type == "done" {
			return nil
		}
		reply, err := c.answer(s, take)
		if err != nil {
			return err
		}
		if err := writeStanza(in, reply); err != nil {
			return errors.New("it stopped listening")
		}
	}

	return errors.New("it does not come to an end")
}

func (c *pluginClient) answer(s *age.Stanza, take func(*age.Stanza) (bool, error)) (*age.Stanza, error) {
	ok, fail := &age.Stanza{Type: "ok"}, &age.Stanza{Type: "fail"}
	switch s.Type {
	case "error":
		return nil, fmt.Errorf("it says: %q", firstLine(s.Body))
	case "msg":
		if c.ui.Show != nil {
			c.ui.Show(firstLine(s.Body))
		}
		return ok, nil

	case "request-secret", "request-public":
		if c.ui.Ask == nil {
			return fail, nil
		}
		v, err := c.ui.Ask(firstLine(s.Body), s.Type == "request-secret")
		if err != nil {
			return fail, nil
		}
		return &age.Stanza{Type: "ok", Body: []byte(v)}, nil

	case "confirm":
		return c.confirm(s)
	}

	taken, err := take(s)
	if err != nil || taken {
		return ok, err
	}

	return &age.Stanza{Type: "unsupported"}, nil
}

func (c *pluginClient) confirm(s *age.Stanza) (*age.Stanza, error) {
	if c.ui.Confirm == nil || len(s.Args) == 0 {
		return &age.Stanza{Type: "fail"}, nil
	}

	var label [2]string
	for i := range min(len(s.Args), 2) {
		b, err := base64.RawStdEncoding.DecodeString(s.Args[i])
		if err != nil {
			return nil, errors.New("it asks what the protocol does not have")
		}
		label[i] = firstLine(b)
	}

	yes, err := c.ui.Confirm(firstLine(s.Body), label[0], label[1])
	if err != nil {
		return &age.Stanza{Type: "fail"}, nil
	}

	return &age.Stanza{Type: "ok", Args: []string{map[bool]string{true: "yes", false: "no"}[yes]}}, nil
}

// firstLine makes what a program said fit for one line of a terminal.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return plain.Line(string(line), 200)
}

func writeStanza(w io.Writer, s *age.Stanza) error {
	var b bytes.Buffer
	b.WriteString("-> " + strings.Join(append([]string{s.Type}, s.Args...), " ") + "\n")
	text := base64.RawStdEncoding.EncodeToString(s.Body)
	for len(text) >= 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}

	b.WriteString(text + "\n")
	_, err := w.Write(b.Bytes())
	return err
}

func readStanza(r *bufio.Reader) (*age.Stanza, error) {
	line, err := readShort(r)
	if err != nil {
		return nil, err
	}

	rest, ok := strings.CutPrefix(line, "-> ")
	if !ok {
		return nil, errors.New("no stanza")
	}

	f := strings.Split(rest, " ")
	s := &age.Stanza{Type: f[0], Args: f[1:]}
	for range 4096 {
		line, err := readShort(r)
		if err != nil {
			return nil, err
		}
		b, err := base64.RawStdEncoding.Strict().DecodeString(line)
		if err != nil || len(line) > 64 {
			return nil, errors.New("malformed body")
		}
		s.Body = append(s.Body, b...)
		if len(line) < 64 {
			return s, nil
		}
	}

	return nil, errors.New("body too long")
}

// readShort reads one line that fits the reader's buffer.
func readShort(r *bufio.Reader) (string, error) {
	b, err := r.ReadSlice('\n')
	return strings.TrimSuffix(string(b), "\n"), err
}
