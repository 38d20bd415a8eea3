package actions

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"bellhop/deploy/contact"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// GiveBack has a host that left the repo take away everything that bellhop owns there, and put
// back what stood there before. A host without a record was given back before, or has lost what
// to put back, which is an error.
func GiveBack(ctx context.Context, d contact.Contact, host string) (*bundle.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.Limit, push.ErrDeadline)
	defer cancel()
	release, err := d.Hosts.Hold(ctx, host)
	if err != nil {
		return nil, err
	}
	defer release()

	hosts := d.History.Hosts()
	last := hosts[host]
	filter := d.Pusher().NewFilter([]string{host, d.ID, last.Digest}, d.Archive().FormerKeys(ctx, host, nil))
	defer filter.Drop()

	s, err := d.Pusher().Open(ctx, routes.Remembered(host, hosts), 0)
	if err != nil {
		return nil, contact.AsText(err, filter.Reveal(err))
	}
	defer s.Close()
	if s.Hello.Record == nil {
		return &bundle.Result{}, givenBack(&s.Hello, last)
	}

	res, err := s.Undo("undo-"+strings.ToLower(rand.Text()[:12]), filter)
	if err != nil {
		return res, contact.AsText(err, filter.Reveal(err))
	}
	return res, nil
}

// givenBack is nil when a host without a record was given back before it could be forgotten here,
// or never had anything.
func givenBack(hello *push.Hello, was history.Host) error {
	if last := hello.Last; last != nil && last.Outcome.Is(bundle.OutcomeDone) && last.Record == nil {
		return nil // a run that is done and leaves nothing to stand
	}
	if was.Had || was.Digest != "" || was.Given != "" {
		return errors.New("the host has no record, so nothing can be given back")
	}
	return nil
}
