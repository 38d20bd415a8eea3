package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// ErrNoServer says that no bellhop serves there.
var ErrNoServer = errors.New("no bellhop serves here")

// A Client speaks to a running server over its socket.
type Client struct{ hc *http.Client }

// Dial finds the server of a state directory; ErrNoServer when there is none.
func Dial(stateDir string) (*Client, error) {
	return DialSocket(filepath.Join(stateDir, SocketName))
}

// DialSocket finds the server behind a socket; ErrNoServer when there is none.
func DialSocket(path string) (*Client, error) {
	if len(path) > 104 {
		return nil, fmt.Errorf("%w: the path of socket %s is longer than 104 bytes", ErrNoServer, path)
	}
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: %s", ErrNoServer, path)
	case err != nil:
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	c.Close()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// Close lets go of the connection.
func (c *Client) Close() error {
	c.hc.CloseIdleConnections()
	return nil
}

// Ring rings the bell of a running server; event, when not nil, is called with each event
// of the run, and Ring returns when it has ended.
func (c *Client) Ring(ctx context.Context, event func(json.RawMessage)) (RingAnswer, error) {
	return Call[RingAnswer](ctx, c, "ring", RingRequest{Follow: event != nil}, event)
}

// Call asks a running server to do a verb. event may be nil.
func Call[Out any](ctx context.Context, c *Client, name string, in any, event func(json.RawMessage)) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return call[Out](ctx, c, name, bytes.NewReader(body), event)
}

// CallLarge is Call for a verb of HandleLarge: rest follows the request.
func CallLarge[Out any](ctx context.Context, c *Client, name string, in any, rest io.Reader, event func(json.RawMessage)) (out Out, err error) {
	head, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return call[Out](ctx, c, name, io.MultiReader(bytes.NewReader(append(head, '\n')), rest), event)
}

func call[Out any](ctx context.Context, c *Client, name string, body io.Reader, event func(json.RawMessage)) (out Out, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bellhop/v1/"+name, body)
	if err != nil {
		return out, err
	}

	res, err := c.hc.Do(req)
	if err != nil && isGone(err) {
		return out, gone(name)
	}
	if err != nil {
		return out, fmt.Errorf("%s: ask the server: %w", name, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return out, fmt.Errorf("%s: the running server does not know this verb: is it an older bellhop?", name)
	case http.StatusForbidden:
		return out, fmt.Errorf("%s: not over this socket", name)
	default:
		return out, fmt.Errorf("%s: the server answers %s", name, res.Status)
	}

	return readAnswer[Out](res.Body, name, event)
}

func readAnswer[Out any](r io.Reader, name string, event func(json.RawMessage)) (out Out, err error) {
	for dec := json.NewDecoder(bufio.NewReader(r)); ; {
		var l struct {
			Event, Result json.RawMessage
			Error, Hint   string
			Exit          int
		}
		switch err := dec.Decode(&l); {
		case err != nil && isGone(err):
			return out, gone(name)
		case err != nil:
			return out, fmt.Errorf("%s: read the server's answer: %w", name, err)
		case l.Error != "":
			return out, &Error{l.Error, l.Hint, l.Exit}
		case l.Result != nil:
			return out, json.Unmarshal(l.Result, &out)
		case l.Event != nil && event != nil:
			event(l.Event)
		}
	}
}

// isGone says that an error of a connection means that the server ended. A verb whose own context ended has
// another error.
func isGone(err error) bool {
	ends := []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED}
	return slices.ContainsFunc(ends, func(end error) bool { return errors.Is(err, end) })
}

// gone is the error of a verb whose server ended before it answered.
func gone(name string) error {
	return &Error{Message: name + ": the server ended before it answered", Exit: 1,
		Hint: "what it began on a host goes on there, and the server takes it up when it runs again: bellhop status, then bellhop history"}
}
