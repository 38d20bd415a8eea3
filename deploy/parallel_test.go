package deploy_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// meeting keeps each host waiting until as many as are to meet are at work, or a while is over.
type meeting struct {
	simLinks
	meet int
	all  chan struct{} // closed when they have met

	mu        sync.Mutex
	now, most int
}

func (l *meeting) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	l.mu.Lock()
	l.now++
	if l.most = max(l.most, l.now); l.now == l.meet {
		close(l.all)
		l.meet = 0
	}
	l.mu.Unlock()
	select {
	case <-l.all:
	case <-time.After(30 * time.Second): // within the deadline to connect
	}
	s, err := l.simLinks.Helper(ctx, t, ahead)
	return &leaving{Stream: s, l: l}, err
}

type leaving struct {
	routes.Stream
	once sync.Once
	l    *meeting
}

func (s *leaving) Close() error {
	s.left()
	return s.Stream.Close()
}

func (s *leaving) Leave() {
	s.left()
	s.Stream.Leave()
}

func (s *leaving) left() {
	s.once.Do(func() {
		s.l.mu.Lock()
		s.l.now--
		s.l.mu.Unlock()
	})
}

// Hosts are at work together, as many as the repo allows and no more.
func TestHostsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name, rollout string
		hosts, want   int
	}{
		{"one host first", "", 2, 1},
		{"two hosts", "rollout: { waves: [] }\n", 2, 2},
		{"more than the default", "rollout: { waves: [100%] }\n", 13, 10},
		{"by the repo", "rollout: { parallel: 2 }\n", 5, 2},
		{"one after another", "rollout: { parallel: 1 }\n", 3, 1},
		{"more than there are", "rollout: { parallel: 50, waves: [] }\n", 12, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &meeting{simLinks: simLinks{map[string]*model{}}, meet: tt.want, all: make(chan struct{})}
				var y strings.Builder
				y.WriteString("network: sim\nconfirm: 0s\n" + tt.rollout + "hosts:\n")
				for i := range tt.hosts {
					name := fmt.Sprint("h", i)
					l.models[name] = calmModel(name)
					fmt.Fprintf(&y, "  %s: { address: 10.0.0.%d, host_key: %s, services: { s: true } }\n", name, i+1, simKey)
				}
				tree := fstest.MapFS{"bellhop.yaml": {Data: []byte(y.String()), Mode: 0o644}, "services/s/files/etc/s.conf": {Data: []byte("x\n"), Mode: 0o644}}
				db, err := history.Open(filepath.Join(t.TempDir(), "0.db"))
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				d := &deploy.Deployer{Loader: &fleet.Loader{}, Links: l, History: db, ID: "SHA256:one", BootID: "none",
					Source: commits.Source{Sync: func(context.Context) (commits.Snapshot, error) {
						return commits.Snapshot{Commit: strings.Repeat("1", 40), Tree: tree}, nil
					}}}
				r, err := d.Run(t.Context(), plan.Request{})
				if err != nil || *r.Outcome != history.OutcomeDone || len(r.Hosts) != tt.hosts {
					t.Fatalf("Run = %+v, %v; want %d hosts done", r, err, tt.hosts)
				}
				if l.most != tt.want {
					t.Errorf("at most %d of %d hosts were at work at once, want %d", l.most, tt.hosts, tt.want)
				}
			})
		})
	}
}
