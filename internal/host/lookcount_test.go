package host_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// manyFiles is a service with n files.
func manyFiles(n int, text string) *load {
	l := rigBot("one", "first")
	for i := range n {
		l.file(fmt.Sprintf("/etc/many/%d/%d", i/20, i), fmt.Sprintf("%s %d\n", text, i))
	}
	return l
}

// A look reads no file that is as it was when a run wrote or read it.
func TestTwinLookReadsNothingTwice(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	h := twinHand{t, m}
	l := manyFiles(200, "one")
	h.deployed(l)
	all := len(state.Of(m.Host()).Stamps())
	if all < 200 {
		t.Fatalf("%d files have stamps, want all of the 200", all)
	}
	reads := func(when string, want int, ask bundle.Look) {
		t.Helper()
		if s := h.look(ask); s.Read != want {
			t.Errorf("%s a look reads %d files, want %d", when, s.Read, want)
		}
	}

	reads("after a run", 0, bundle.Look{})
	reads("with verify", all, bundle.Look{Verify: true})
	reads("after another look", 0, bundle.Look{})

	h.hand("write", "/etc/many/0/7", "onE 7\n")
	h.hand("write", "/etc/many/0/8", "a longer text")
	reads("after two edits, one of them of the same size,", 1, bundle.Look{})
	h.deployed(l)
	reads("after they were put back", 0, bundle.Look{})

	// A run that goes back leaves what it put back known, too.
	bad := manyFiles(200, "two")
	bad.service("rigbad.service", "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
	m.Fail("rigbad.service")
	o := bad.offer()
	o.Base = 2
	twinDeploy(t, m, o, bad, bundle.OutcomeRolledBack)
	reads("after a run that went back", 0, bundle.Look{})

	// The record of a former release has no stamps: the next contact that compares makes them.
	if err := os.Remove(m.Path("/var/lib/bellhop/stamps")); err != nil {
		t.Fatal(err)
	}
	reads("without stamps", all, bundle.Look{})
	h.deployed(l)
	reads("after an offer that changed nothing", 0, bundle.Look{})

	if err := os.WriteFile(m.Path("/var/lib/bellhop/stamps"), []byte(`{"/etc/many/0/7":{"si`), 0o600); err != nil {
		t.Fatal(err)
	}
	reads("with stamps that a power cut tore", all, bundle.Look{})
}

// BenchmarkRatioLook holds a look at a host with 200 owned files of 64 KiB against one that reads them all:
// at most 30 ms of CPU for a whole session, and at most half of the other. They alternate; medians of eleven.
func BenchmarkRatioLook(b *testing.B) {
	const most = 30 * time.Millisecond
	m := lab.NewMachine(b.TempDir())
	l := manyFiles(200, strings.Repeat("x", 64<<10))
	if got, err := talk(m.Host(), l.offer(), l); err != nil || got.res.Outcome != bundle.OutcomeDone {
		b.Fatalf("deploy: %v, %v", got.res, err)
	}

	cost := func(ask bundle.Look) time.Duration {
		runtime.GC()
		began := cpuTime(b)
		if _, s := lookAt(b, m.Host(), ask, true); s.DriftCount() > 0 || s.Generation != 1 {
			b.Fatalf("look = %+v", s)
		}
		return cpuTime(b) - began
	}

	var subject, base []time.Duration
	for range 11 {
		subject, base = append(subject, cost(bundle.Look{})), append(base, cost(bundle.Look{Verify: true}))
	}
	slices.Sort(subject)
	slices.Sort(base)
	ratio := float64(subject[5]) / float64(base[5])
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(float64(subject[5].Microseconds())/1000, "cpu-ms")
	b.Logf("by stamps %v, reading all %v", subject, base)
	if subject[5] > most || ratio > 0.5 {
		b.Errorf("a look took %v of CPU, %.2f of one that reads all; want at most %v and 0.5", subject[5], ratio, most)
	}
}

// cpuTime is what this process has used of the CPU.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
