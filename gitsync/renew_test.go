package gitsync_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bellhop/gitsync"
	"bellhop/internal/lab"
)

// aged makes a clone that has seen n fetches of one commit each.
func aged(tb testing.TB, n int) (rem *lab.Remote, r *gitsync.Repo, dir string) {
	rem = remote(tb)
	files := map[string]string{}
	for i := range 60 {
		files[fmt.Sprintf("services/s%d/unit.service", i)] = fmt.Sprintf("[Service]\nExecStart=/opt/bellhop/s%d/run\nEnvironment=N=%d\n", i, i*i)
	}
	rem.Commit(files, "all of it", "")
	dir = filepath.Join(tb.TempDir(), "repo.git")
	r = open(tb, gitsync.Config{URL: rem.URL(), Dir: dir})
	sync1(tb, r)
	for i := range n {
		rem.Commit(map[string]string{fmt.Sprintf("services/s%d/unit.service", i%60): fmt.Sprintf("[Service]\nEnvironment=N=%d\n", i)}, fmt.Sprint("push ", i), "")
		if s := sync1(tb, r); s.Commit != rem.Head() {
			tb.Fatalf("push %d: at %s, want %s", i, s.Commit, rem.Head())
		}
	}
	return rem, r, dir
}

func size(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

func TestManyFetches(t *testing.T) {
	pushes := 1040 // the last renewal lies 40 packs back
	if testing.Short() {
		pushes = 90
	}
	rem, r, dir := aged(t, pushes)
	fresh := filepath.Join(t.TempDir(), "fresh.git")
	sync1(t, open(t, gitsync.Config{URL: rem.URL(), Dir: fresh}))
	old, young := size(dir), size(fresh)
	t.Logf("after %d fetches: %d KiB, %d packs; fresh clone: %d KiB", pushes, old>>10, countPacks(dir), young>>10)
	slack := int64(0)
	if testing.Short() {
		slack = 128 << 10 // a repo this young is smaller than the indexes of 40 packs
	}
	if old > 2*young+slack {
		t.Errorf("after %d fetches the clone has %d bytes, want at most twice the %d of a fresh one", pushes, old, young)
	}
	if n := countPacks(dir); n > 80 {
		t.Errorf("%d packs, want at most 80", n)
	}
	for _, left := range []string{".new", ".old"} {
		if _, err := os.Stat(dir + left); err == nil {
			t.Errorf("%s was left behind", dir+left)
		}
	}
	readAll(t, sync1(t, r).Tree)
}

// BenchmarkFetch holds one more fetch into a clone of 1,000 fetches against the same into a
// fresh one, alternating.
func BenchmarkFetch(b *testing.B) {
	rem, old, _ := aged(b, 1000)
	fresh := open(b, gitsync.Config{URL: rem.URL(), Dir: filepath.Join(b.TempDir(), "fresh.git")})
	sync1(b, fresh)
	var base, ours time.Duration
	i := 0
	for b.Loop() {
		i++
		rem.Commit(map[string]string{"services/s1/unit.service": fmt.Sprint("bench ", i)}, "push", "")
		for turn := range 2 {
			start := time.Now()
			if (turn+i)%2 == 0 {
				sync1(b, fresh)
				base += time.Since(start)
			} else {
				sync1(b, old)
				ours += time.Since(start)
			}
		}
	}
	b.ReportMetric(float64(ours)/float64(base), "x-fresh")
}
