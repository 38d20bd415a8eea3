package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"bellhop/deploy/drift"
	"bellhop/deploy/follow"
	"bellhop/internal/history"
	"bellhop/internal/page"
	"bellhop/secrets/privatefile"
	"bellhop/server"
)

// Who may see the admin page, and who stands before the webhook: what serve reads of its flags
// for that.

// readAdminToken reads the token of the admin listener: of the file that was named, else of the
// state directory, where it is made when it is missing. With --admin-open there is none.
func (s *serving) readAdminToken(o *serveOptions) (string, error) {
	switch {
	case o.adminOpen && o.adminToken != "":
		return "", errors.New("--admin-open and --admin-token contradict each other: give one")
	case o.adminOpen:
		return "", nil
	}

	path, err := filepath.Abs(cmp.Or(o.adminToken, s.app.state.path(adminTokenFile)))
	if err != nil {
		return "", err
	}
	if o.adminToken == "" {
		if _, err := privatefile.Make(path, func() ([]byte, error) { return randomHex(32), nil }); err != nil {
			return "", fmt.Errorf("make %s: %w", path, err)
		}
	}

	s.adminTokenFile = path
	return readToken(path)
}

// newPage shows the fleet to browsers.
func (s *serving) newPage(log *slog.Logger) *page.Page {
	db := s.app.history
	return page.New(page.Sources{
		Status:   s.status,
		Sentence: func(st history.Status) string { return countStates(paint(false), st.Hosts) },
		Runs:     db.Runs, Outcomes: db.RunOutcomes, Run: db.Run, Deliveries: db.Deliveries, Generations: db.Generations,
		Events: s.pageEvents, Plan: s.plans.Of, Look: db.Looks().Last, Drift: s.pageDrift, Log: log, Manifest: db.Manifest,
	})
}

// pageEvents are the events of a run as a page shows them.
func (s *serving) pageEvents(run string) []page.Event {
	var all []page.Event
	var began time.Time
	for _, e := range s.bell.Events(run) {
		if began.IsZero() {
			began = e.At
		}
		one := page.Event{After: fmt.Sprintf("+%.2f s", e.At.Sub(began).Seconds()), Host: e.Host, Step: e.Step, Text: e.Text}
		if e.Outcome != "" {
			one.Text = strings.TrimSpace(string(e.Outcome) + " " + e.Text)
		}
		all = append(all, one)
	}
	return all
}

// pageDrift asks a host, as bellhop drift HOST --diff does.
func (s *serving) pageDrift(ctx context.Context, host string) (page.Drift, error) {
	found, err := s.app.deployer.Looker().Drift(ctx, drift.Request{On: host, Diff: true})
	if err != nil || len(found) == 0 {
		return page.Drift{}, err
	}

	h := found[0]
	out := page.Drift{Words: driftWords(paint(false), &h)}
	for _, one := range h.Drift {
		out.Differences = append(out.Differences, page.Difference{Kind: one.Kind, Name: one.Name, What: differenceWords(one), Diff: or(one.Diff, ""), Why: or(one.Why, "")})
	}
	for _, key := range h.KeysMissing {
		out.Differences = append(out.Differences, page.Difference{Kind: "key", Name: key, What: "missing"})
	}
	return out, nil
}

// readToken reads the token of an admin listener.
func readToken(path string) (string, error) {
	b, err := privatefile.Read(path)
	if err != nil {
		return "", fmt.Errorf("read the admin token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < server.MinSecret {
		return "", fmt.Errorf("the admin token in %s has %d characters, needs at least %d", path, len(token), server.MinSecret)
	}
	return token, nil
}

// adminTokenFile is where the state directory has the token of the admin listener.
const adminTokenFile = "admin-token"

// parseProxies reads networks as 10.0.0.0/8, and single addresses.
func parseProxies(values []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, v := range values {
		v = strings.TrimSpace(v)
		if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
			a = a.Unmap()
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
			continue
		}

		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, hint(fmt.Errorf("--trust-proxy %s is no network", v), "as --trust-proxy 172.18.0.0/16, or the address of one proxy")
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

// tellPage tells browsers of each event of a run, and whoever else heard it before.
func tellPage(p *page.Page, before func(follow.Event)) func(follow.Event) {
	return func(e follow.Event) {
		if before != nil {
			before(e)
		}
		p.Changed()
	}
}

// runURL is the address of a run's page; "" when the page has no public address.
func (o *serveOptions) runURL(run string) string { return page.RunURL(o.publicURL, run) }
