// Package metrics shows a fleet to Prometheus.
//
// What hosts are is read of history when somebody asks, so that no number is older than the question. What takes time
// is counted in histograms, from the start of the process on.
//
// Its promise: names and labels are a contract. A label holds a host of the config, a state or a word of bellhop's own;
// nothing that a stranger sent becomes one.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bellhop/internal/history"
)

// Sources are where numbers come from.
type Sources struct {
	// Status is the state of the fleet.
	Status func(ctx context.Context) (history.Status, error)
	// Waiting counts messages that nobody was sent yet.
	Waiting func(ctx context.Context) (int, error)
	// Deliveries counts webhook deliveries by the verdict on them.
	Deliveries func() map[string]int64
	// Polls counts looks at the repo that nobody asked for.
	Polls func() int64
}

// Metrics is what /metrics shows.
type Metrics struct {
	registry *prometheus.Registry
	runs     prometheus.Histogram
	stages   *prometheus.HistogramVec
}

// scrapeTime bounds what a scrape may wait for the database.
const scrapeTime = 5 * time.Second

// New makes the metrics of one server.
func New(from Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bellhop_run_duration_seconds", Help: "How long runs took, from the look at the repo to the last result.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800},
		}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bellhop_stage_duration_seconds", Help: "How long the stages of runs took: sync, load, bundle, plan, store, push.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"stage"}),
	}

	m.registry.MustRegister(m.runs, m.stages, &collector{from}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Took counts how long a stage of a run took; the stage "run" is all of it.
func (m *Metrics) Took(stage string, took time.Duration) {
	if stage == "run" {
		m.runs.Observe(took.Seconds())
		return
	}
	m.stages.WithLabelValues(stage).Observe(took.Seconds())
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 2 * scrapeTime})
}

// A collector makes numbers of the state of the fleet when it is asked.
type collector struct{ from Sources }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bellhop_"+name, help, labels, nil)
}

var (
	hostState   = desc("host_state", "1 for the state that a host is in.", "host", "state")
	lastSuccess = desc("host_last_success_timestamp_seconds", "When a host was deployed to last, Unix time.", "host")
	keysMissing = desc("keys_missing", "Keys that a host should have and has not; of a host that is away, all.", "host")
	awaySince   = desc("host_away_since_timestamp_seconds", "Since when a host does not answer, Unix time; not there while it does.", "host")
	unitsFailed = desc("units_failed", "Units of bellhop's that had failed when a host was looked at last.", "host")
	driftPaths  = desc("drift_paths", "What differed from what was deployed when a host was looked at last.", "host")
	reboot      = desc("reboot_required", "1 where a host waited for a reboot when it was looked at last.", "host")
	paused      = desc("paused", "1 while runs are paused.")
	syncError   = desc("sync_error", "1 while the repo can't be read.")
	outbox      = desc("outbox_pending", "Results that people are to be told of and were not yet.")
	deliveries  = desc("deliveries_total", "Webhook deliveries since the start, by the verdict on them.", "verdict")
	polls       = desc("polls_total", "Looks at the repo since the start that nobody asked for.")
)

// Describe is part of prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hostState, lastSuccess, keysMissing, awaySince, unitsFailed, driftPaths, reboot, paused, syncError, outbox, deliveries, polls} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector. A database that can't be read is an error of the scrape, and no zero.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()

	for verdict, n := range c.from.Deliveries() {
		ch <- prometheus.MustNewConstMetric(deliveries, prometheus.CounterValue, float64(n), verdict)
	}
	ch <- prometheus.MustNewConstMetric(polls, prometheus.CounterValue, float64(c.from.Polls()))

	if n, err := c.from.Waiting(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(outbox, err)
	} else {
		ch <- gauge(outbox, float64(n))
	}

	s, err := c.from.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(hostState, err)
		return
	}
	ch <- gauge(paused, number(s.Paused))
	ch <- gauge(syncError, number(s.SyncError != nil))
	for _, h := range s.Hosts {
		collectHost(ch, h)
	}
}

func collectHost(ch chan<- prometheus.Metric, h history.HostStatus) {
	ch <- gauge(hostState, 1, h.Name, string(h.State))
	ch <- gauge(keysMissing, float64(h.Keys.Expected-h.Keys.Present), h.Name)
	if h.DeployedAt != nil {
		ch <- gauge(lastSuccess, seconds(*h.DeployedAt), h.Name)
	}
	if h.AwaySince != nil {
		ch <- gauge(awaySince, seconds(*h.AwaySince), h.Name)
	}

	if h.Units != nil {
		ch <- gauge(unitsFailed, float64(len(h.Units.Failed)), h.Name)
	}
	if h.Drift != nil {
		ch <- gauge(driftPaths, float64(*h.Drift), h.Name)
	}
	if h.RebootRequired != nil {
		ch <- gauge(reboot, number(*h.RebootRequired), h.Name)
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
