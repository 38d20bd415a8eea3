// Package actions is what a person has done on one host without a run: restart a service, reboot, and give
// back what bellhop owns there.
//
// An action waits for its turn on the host, like a run, and deploys nothing.
package actions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/deploy/contact"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// A Restart restarts the units of one service on hosts. It deploys nothing.
type Restart struct {
	contact.Contact
	Service  string
	Progress func(host, line string) // hears what happens, line by line; nil: nobody does
	// After is called once the host is left, whatever came of it. Nil: nothing follows.
	After func(ctx context.Context, host string)
}

// ErrNoService says that a host does not have the service.
var ErrNoService = errors.New("no such service")

// noService is ErrNoService, and says what the host has.
type noService string

func (e noService) Error() string        { return string(e) }
func (e noService) Is(target error) bool { return target == ErrNoService }

// Check says whether the host has the service, as far as is remembered of it. What is not remembered is left to
// the host.
func (r *Restart) Check(host string) error {
	m, _, err := r.History.Manifest(host)
	if err != nil || m == nil {
		return err
	}

	names := m.ServiceNames()
	switch {
	case slices.Contains(names, r.Service):
		return nil
	case len(names) == 0:
		return noService(fmt.Sprintf("%s has no service %s, nor any other", host, r.Service))
	}
	return noService(fmt.Sprintf("%s has no service %s; it has %s", host, r.Service, strings.Join(names, ", ")))
}

// On restarts the units of the service on a host, behind the run that is at work there, and waits until they are up as
// after a deploy. The result is nil when the host gave none.
func (r *Restart) On(ctx context.Context, host string) (*bundle.Result, error) {
	d := r.Contact
	if d.Hosts.Pushing(host) {
		r.tell(host, "waits for the run at work")
	}

	release, err := d.Hosts.Hold(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("restart %s on %s: %w", r.Service, host, err)
	}

	res, err := r.held(ctx, host)
	release()
	if r.After != nil {
		r.After(ctx, host)
	}

	return res, err
}

// held is On with the host held.
func (r *Restart) held(ctx context.Context, host string) (*bundle.Result, error) {
	d := r.Contact
	hosts := d.History.Hosts()
	last := hosts[host]
	filter := d.Pusher().NewFilter(r.said(host, last), d.Archive().FormerKeys(ctx, host, nil))
	defer filter.Drop()

	res, err := r.session(ctx, host, hosts, filter)
	if err != nil {
		return nil, fmt.Errorf("restart %s on %s: %w", r.Service, host, contact.AsText(err, filter.Reveal(err)))
	}
	if res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing {
		err = fmt.Errorf("restart %s on %s: %s", r.Service, host, res.Error)
	}
	return res, err
}

func (r *Restart) session(ctx context.Context, host string, hosts map[string]history.Host, filter *push.Filter) (*bundle.Result, error) {
	d := r.Contact
	things := 0
	if m, _, err := d.History.Manifest(host); err == nil && m != nil {
		things = len(m.Units)
	}
	s, err := d.Pusher().Open(ctx, routes.Remembered(host, hosts), things)
	if err != nil {
		return nil, err
	}
	defer s.Close()

	return s.Restart("restart-"+strings.ToLower(rand.Text()[:12]), r.Service, filter, func(step, text string) {
		if line := restartLine(step, text); line != "" {
			r.tell(host, line)
		}
	})
}

// said are words that a host was told and says again: the filter need not look for keys in them.
func (r *Restart) said(host string, last history.Host) []string {
	said := []string{host, r.ID, last.Digest, last.BootID}
	if m, _, err := r.History.Manifest(host); err == nil && m != nil {
		for _, u := range m.Units {
			said = append(said, u.Name)
		}
	}
	return said
}

func (r *Restart) tell(host, line string) {
	if r.Progress != nil {
		r.Progress(host, line)
	}
}

// restartLine is a step of a restart for people; "" for one that says nothing to them.
func restartLine(step, text string) string {
	switch step {
	case "wait":
		return "waits for the run at work"
	case "restart":
		return "restarting " + text
	case "start":
		return "starting " + text
	}
	return ""
}
