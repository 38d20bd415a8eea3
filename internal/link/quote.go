package link

import (
	"context"
	"errors"
	"io"
	"net"

	"bellhop/internal/plain"
)

// What a host says before its helper speaks, and instead of it, is quoted in errors: what the
// login shell printed, stderr, and what its SSH server gives as a reason. A key's value may
// be in it. So an error holds it as a plain.Quote, whose text does not show it.

// peerError is an error of the SSH library, which may hold the other side's words: why it
// disconnects or refuses a channel, and which algorithms it offers. What this machine's own
// network says passes as it is.
func peerError(err error) error {
	var own *plain.Quote
	var network *net.OpError
	var dns *net.DNSError

	switch {
	case err == nil, errors.As(err, &own), errors.As(err, &network), errors.As(err, &dns):
		return err
	case err == io.EOF, err == io.ErrUnexpectedEOF, err == errNoCommands:
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}

	return &plain.Quote{Said: plain.NewForeign(err.Error()), Cause: err}
}
