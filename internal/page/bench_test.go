package page_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/page"
)

// many is a fleet of a thousand hosts, each with thirty runs, one in ten of which failed, each in words of its own.
func many() page.Sources {
	s := sample()
	st, _ := s.Status(context.Background())
	well, ill := st.Hosts[0], st.Hosts[1]
	random := rand.New(rand.NewPCG(1, 2))

	st.Hosts = nil
	for i := range 1000 {
		one := well
		if i%10 == 3 {
			one = ill
			one.Error = ptr(fmt.Sprintf("app-%x.service failed: exit-code %d", random.Uint64(), i%250))
		}
		one.Name = fmt.Sprintf("host%04d", i)
		one.Commit = ptr(fmt.Sprintf("%016x", random.Uint64()))
		st.Hosts = append(st.Hosts, one)
	}

	runs := make([]history.Run, 30)
	for i := range runs {
		runs[i] = history.Run{ID: fmt.Sprintf("r%d", i), Cause: "push", Outcome: ptr(history.OutcomePartial)}
		for _, h := range st.Hosts {
			outcome := history.OutcomeDone
			if random.IntN(10) == 0 {
				outcome = history.OutcomeRolledBack
			}
			runs[i].Hosts = append(runs[i].Hosts, history.RunResult{Name: h.Name, Outcome: &outcome})
		}
	}

	s.Status = func(context.Context) (history.Status, error) { return st, nil }
	s.Outcomes = func(context.Context, int) ([]history.Run, error) { return runs, nil }
	return s
}

// BenchmarkThousandHosts is the fleet's page from history's file to the compressed bytes: a thousand hosts that each had
// thirty runs. A page is to take 50 ms at most: on a machine that does other things too, cpu-ms/op is the number to look at.
func BenchmarkThousandHosts(b *testing.B) {
	db, err := history.Open(filepath.Join(b.TempDir(), "bellhop.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for i := range 30 {
		pushAll(b, db, i)
	}

	from := sample()
	from.Status, from.Outcomes = db.Status, db.RunOutcomes
	p := page.New(from)
	before := cpu(b)
	for b.Loop() {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != 200 || w.Body.Len() < 5_000 {
			b.Fatal(w.Code, w.Body.Len())
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// cpu is the time that this process had of processors so far, that of the collector included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// pushAll is run number i, of a thousand hosts.
func pushAll(b *testing.B, db *history.DB, i int) {
	ctx := b.Context()
	start := history.Start{ID: fmt.Sprintf("r%d", i), Commit: fmt.Sprintf("%040x", i), Cause: "push", At: time.Now()}
	digest := fmt.Sprintf("d%d", i)
	var hosts []history.Planned
	for n := range 1000 {
		hosts = append(hosts, history.Planned{Name: fmt.Sprintf("host%04d", n), State: history.Behind, Wanted: digest, Listed: true})
	}
	if err := db.Plan(ctx, start, start.Commit, hosts, nil); err != nil {
		b.Fatal(err)
	}

	for _, h := range hosts {
		end := history.End{Outcome: bundle.OutcomeDone, Digest: digest, Commit: start.Commit, Changed: []string{"file:/etc/x"}, BootID: "boot",
			Record: &bundle.Record{Network: "n", Host: h.Name, Deployer: "d", Generation: int64(i + 1), Digest: digest, BootID: "boot"}, Manifest: &bundle.Manifest{Host: h.Name}}
		if err := db.Begun(ctx, start.ID, h.Name, digest); err != nil {
			b.Fatal(err)
		}
		if err := db.Ended(ctx, start.ID, h.Name, end); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.FinishRun(ctx, start, history.OutcomeDone, ""); err != nil {
		b.Fatal(err)
	}
}
