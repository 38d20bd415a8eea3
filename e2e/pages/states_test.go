//go:build e2e

package pages_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
	"bellhop/internal/page"
)

// troubled is a fleet with a host in each state, each with what such a host has to say: long texts without blanks among it.
func troubled() page.Sources {
	now := time.Now()
	ago := func(d time.Duration) *time.Time { return new(now.Add(-d)) }
	top, was := new(strings.Repeat("89abcdef01", 4)), new(strings.Repeat("0123456789", 4))
	long := "web.service: it is failed (exit-code, status=1/FAILURE)\nunit web.service: open /srv/" + strings.Repeat("a-very-long-name.", 12) + "yaml: no such file\nwhat it said: bellhop logs chrysalis web.service"

	host := func(name string, state history.State, change func(h *history.HostStatus)) history.HostStatus {
		h := history.HostStatus{Name: name, State: state, Commit: top, Generation: new(int64(7)), DeployedAt: ago(time.Hour), Run: new("20261201-010203-0a1b2c"), SeenAt: ago(time.Minute), LookedAt: ago(time.Minute),
			Units: &looks.UnitStatus{Running: 4}, Drift: new(0), RebootRequired: new(false), BootID: new("0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"), Keys: history.KeyCount{Expected: 3, Present: 3},
			Services: []services.Status{services.New("web", *top, services.Current, ""), services.New("postgres-exporter-of-the-house", *top, services.Current, "")}}
		change(&h)
		return h
	}
	status := history.Status{Network: new("hexagone"), Branch: new("main"), Commit: top, Paused: true, Waiting: 2,
		Pause: &stops.PauseStatus{By: new("mimi (uid 1001)"), Reason: new("the rack moves house"), Since: ago(time.Hour)},
		Hosts: []history.HostStatus{
			host("chrysalis", history.RolledBack, func(h *history.HostStatus) {
				h.Commit, h.Error = was, &long
				h.Services[0] = services.New("web", *was, services.Failed, long)
				h.Units.Failed = []looks.FailedUnit{{Name: "web.service", Result: "exit-code", Since: ago(time.Minute)}}
			}),
			host("lufta", history.HeldBack, func(h *history.HostStatus) {
				h.Error = new("web stays at 01234567: unit web.service is masked on the host")
				h.Services[0] = services.New("web", *was, services.Held, "unit web.service is masked on the host")
			}),
			host("kos-mos", history.Pending, func(h *history.HostStatus) {
				h.Commit, h.SeenAt, h.AwaySince, h.Keys.Present = was, ago(26*time.Hour), ago(26*time.Hour), 0
			}),
			host("pneuma", history.Held, func(h *history.HostStatus) {
				h.Commit, h.Held = was, &stops.HoldStatus{By: new("cadey"), Reason: new("the new kernel has no driver for the disks"), Since: *ago(3 * time.Hour)}
			}),
			host("logos", history.Current, func(h *history.HostStatus) { h.Drift, h.RebootRequired = new(3), new(true) }),
			host("ontos", history.Unconfirmed, func(h *history.HostStatus) {
				h.Reason, h.Error = new(results.ReasonCutOff), new("nobody confirmed the run in 30s")
			}),
			host("vm-"+strings.Repeat("x", 60), history.Failed, func(h *history.HostStatus) { h.Error = new("could not be undone: /etc/x: read-only file system") }),
			host("first", history.Never, func(h *history.HostStatus) { *h = history.HostStatus{Name: h.Name, State: h.State} }),
			host("gone", history.Released, func(*history.HostStatus) {}),
			host("busy", history.Deploying, func(*history.HostStatus) {}),
			host("next", history.Behind, func(*history.HostStatus) {}),
			host("lost", history.Unknown, func(*history.HostStatus) {}),
			host("no", history.Refused, func(h *history.HostStatus) { h.Error = new("bellhop.yaml:4:3: unknown field \"adress\"") }),
		}}

	run := history.Run{ID: "20261201-010203-0a1b2c", Commit: top, Author: new("Cadey"), Subject: new("web: " + strings.Repeat("long", 40)), Cause: "push", StartedAt: *ago(time.Hour), FinishedAt: ago(59 * time.Minute), Outcome: new(history.OutcomePartial)}
	for _, h := range status.Hosts {
		run.Hosts = append(run.Hosts, history.RunResult{Name: h.Name, Outcome: new(h.State.Outcome()), Changed: []string{"file:/etc/web.conf"}, TookMs: 812, Error: h.Error,
			Evidence: []results.Evidence{{Unit: new("web.service"), Result: new("exit-code"), Exit: 1, Lines: []string{"starting", strings.Repeat("panic! ", 60)}}}})
	}

	return page.Sources{
		Status:   func(context.Context) (history.Status, error) { return status, nil },
		Sentence: func(history.Status) string { return "1 current, 12 need a look" },
		Runs: func(context.Context, int, ...string) (history.History, error) {
			return history.History{Runs: []history.Run{run}}, nil
		},
		Outcomes: func(context.Context, int) ([]history.Run, error) { return []history.Run{run}, nil },
		Run:      func(context.Context, string) (*history.Run, error) { return &run, nil },
		Deliveries: func(context.Context, int) ([]deliveries.Delivery, error) {
			return []deliveries.Delivery{{ID: "7f3c1a2e-1111-2222-3333-444455556666", At: now, Event: "push", Branch: strings.Repeat("feature/", 20), Commit: *top, Answer: "200: another branch; bellhop deploys main"}}, nil
		},
		Events: func(string) []page.Event {
			return []page.Event{{After: "+0.1 s", Host: "chrysalis", Step: "health", Text: long}}
		},
		Plan: func(string) string {
			return "chrysalis\n  ~ file /etc/web.conf\n    -a\n    +" + strings.Repeat("b", 300)
		},
		Manifest: func(string) (*bundle.Manifest, string, error) {
			return &bundle.Manifest{Keys: []bundle.Key{{Name: "bot-token"}, {Name: "wg0"}}, Units: []bundle.Unit{{Name: "web.service", Service: "web"}, {Name: "web-rotate.timer", Service: "web"}},
				Services: []bundle.Service{{Name: "web", Compose: &bundle.ComposeProject{Containers: []bundle.Container{{Name: "db"}}}}}}, "digest", nil
		},
		Look: func(string) (looks.Look, bool) {
			return looks.Look{At: now, Drift: []looks.Drift{{Kind: "file", Name: "/etc/" + strings.Repeat("x", 120), What: "changed"}}, Drifted: 3,
				Units: map[string]string{"web.service": "failed", "web-rotate.timer": "active (waiting)", "web:db": "active (healthy)"}}, true
		},
		Drift: func(context.Context, string) (page.Drift, error) {
			return page.Drift{Words: "3 things differ", Differences: []page.Difference{{Kind: "file", Name: "/etc/web.conf", What: "changed", Diff: "-a\n+" + strings.Repeat("c", 300)}}}, nil
		},
		Generations: func(string) []history.Generation {
			return []history.Generation{{Generation: 7, Commit: *top, At: now}, {Generation: 6, Commit: *was, At: *ago(30 * time.Hour)}}
		},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// A fleet with all that can be the matter has no barriers and nothing to scroll sideways, in both themes, on a screen, on a phone
// and on paper.
func TestEachStateInABrowser(t *testing.T) {
	server := httptest.NewServer(page.New(troubled()))
	t.Cleanup(server.CloseClientConnections) // those that hear of changes
	b := openBrowser(t)
	for name, path := range map[string]string{"fleet": "/", "undone": "/hosts/chrysalis", "heldback": "/hosts/lufta", "away": "/hosts/kos-mos", "held": "/hosts/pneuma", "never": "/hosts/first",
		"longname": "/hosts/vm-" + strings.Repeat("x", 60), "drift": "/hosts/logos/drift", "run": "/runs/20261201-010203-0a1b2c", "services": "/services", "deliveries": "/deliveries"} {
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{1280, 360} {
				view := "states-" + name + "-" + theme
				if width < 500 {
					view += "-phone"
				}
				b.look(t, theme, "", width)
				b.run(t, chromedp.Navigate(server.URL+path))
				b.checkBarriers(t, view)
				b.checkWidth(t, view)
				b.picture(t, view)
			}
		}
		b.look(t, "light", "", 680) // a window between both
		b.checkWidth(t, name+" in a small window")
		b.look(t, "light", "print", 718)
		b.checkWidth(t, name+" on paper")
		b.picture(t, "states-"+name+"-paper")
	}
}
