package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/looks"
	"bellhop/internal/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Code, w.Body.String()
}

func sources(status func() (history.Status, error)) metrics.Sources {
	return metrics.Sources{
		Status:     func(context.Context) (history.Status, error) { return status() },
		Waiting:    func(context.Context) (int, error) { return 3, nil },
		Deliveries: func() map[string]int64 { return map[string]int64{"rang": 2, "unauthorized": 1} },
		Polls:      func() int64 { return 7 },
	}
}

// everything is metrics that have something to show under every name.
func everything() *metrics.Metrics {
	at := time.UnixMilli(1_700_000_000_500)
	m := metrics.New(sources(func() (history.Status, error) {
		return history.Status{SyncError: &history.SyncError{}, Hosts: []history.HostStatus{
			{Name: "chrysalis", State: history.Current, DeployedAt: &at, Keys: history.KeyCount{Expected: 2, Present: 2},
				Units: &looks.UnitStatus{Failed: make([]looks.FailedUnit, 1)}, Drift: new(2), RebootRequired: new(true)},
			{Name: "kos-mos", State: history.RolledBack, AwaySince: &at, Keys: history.KeyCount{Expected: 3}},
		}}, nil
	}))
	m.Took("run", 2*time.Second)
	m.Took("sync", 3*time.Millisecond)
	return m
}

// The names and labels are a contract.
func TestNames(t *testing.T) {
	code, body := scrape(t, everything())
	for _, line := range []string{
		`bellhop_host_state{host="chrysalis",state="current"} 1`,
		`bellhop_host_state{host="kos-mos",state="rolled-back"} 1`,
		`bellhop_host_last_success_timestamp_seconds{host="chrysalis"} 1.7000000005e+09`,
		`bellhop_host_away_since_timestamp_seconds{host="kos-mos"} 1.7000000005e+09`,
		`bellhop_keys_missing{host="kos-mos"} 3`,
		`bellhop_keys_missing{host="chrysalis"} 0`,
		`bellhop_units_failed{host="chrysalis"} 1`,
		`bellhop_drift_paths{host="chrysalis"} 2`,
		`bellhop_reboot_required{host="chrysalis"} 1`,
		`bellhop_run_duration_seconds_bucket{le="1"} 0`,
		`bellhop_run_duration_seconds_bucket{le="2.5"} 1`,
		`bellhop_run_duration_seconds_sum 2`,
		`bellhop_stage_duration_seconds_bucket{stage="sync",le="0.005"} 1`,
		`bellhop_sync_error 1`,
		`bellhop_paused 0`,
		`bellhop_deliveries_total{verdict="rang"} 2`,
		`bellhop_deliveries_total{verdict="unauthorized"} 1`,
		`bellhop_polls_total 7`,
		`bellhop_outbox_pending 3`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if code != 200 || strings.Contains(body, `host_last_success_timestamp_seconds{host="kos-mos"}`) {
		t.Errorf("code %d; kos-mos was never deployed to", code)
	}
}

// History that can't be read is an error of the scrape: an alert on zero hosts would not fire.
func TestUnreadable(t *testing.T) {
	m := metrics.New(sources(func() (history.Status, error) { return history.Status{}, errors.New("disk I/O error") }))
	if code, body := scrape(t, m); code != 500 || !strings.Contains(body, "disk I/O error") {
		t.Errorf("%d %s", code, body)
	}
}

// The dashboard in contrib asks for metrics that there are, for each of them, and by labels that they have.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../contrib/grafana/bellhop.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}

	_, body := scrape(t, everything())
	there := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(bellhop_\w+)`).FindAllStringSubmatch(body, -1) {
		there[m[1]] = true
	}
	asked := map[string]bool{}
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("panel %d, %q, has no title, nothing to show or no place", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`bellhop_\w+`).FindAllString(target.Expr, -1) {
				asked[name] = true
				if !there[name] {
					t.Errorf("panel %q asks for %s, which is not there", p.Title, name)
				}
			}
		}
	}
	for name := range there {
		isPart := strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count")
		if !isPart && !asked[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`by \(([^)]*)\)|(\w+)=~?"`).FindAllStringSubmatch(string(b), -1) {
		for label := range strings.SplitSeq(m[1]+m[2], ",") {
			if label = strings.TrimSpace(label); !strings.Contains(body, label+`="`) {
				t.Errorf("the dashboard asks by the label %q, which is not there", label)
			}
		}
	}
}
