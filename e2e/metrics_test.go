//go:build e2e

package e2e

import (
	"context"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/metrics"
)

// Prometheus's own tool finds nothing wrong with what /metrics says, nor with the rules in contrib/.
func TestPrometheusTakesIt(t *testing.T) {
	now := time.Now()
	m := metrics.New(metrics.Sources{
		Status: func(context.Context) (history.Status, error) {
			return history.Status{Hosts: []history.HostStatus{{Name: "kos-mos", State: history.Failed, DeployedAt: &now, AwaySince: &now}}}, nil
		},
		Waiting:    func(context.Context) (int, error) { return 1, nil },
		Deliveries: func() map[string]int64 { return map[string]int64{"rang": 1} },
		Polls:      func() int64 { return 1 },
	})
	m.Took("run", time.Second)
	m.Took("sync", time.Second)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = w.Body
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	for _, args := range [][]string{{"check", "rules", "../contrib/prometheus/alerts.yaml"}, {"test", "rules", "../contrib/prometheus/alerts_test.yaml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
