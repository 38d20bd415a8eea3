package gitsync_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	pushes := 1035 // the last renewal lies 15 packs back
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
		slack = 128 << 10 // a repo this young is smaller than the indexes of 20 packs
	}
	if old > 2*young+slack {
		t.Errorf("after %d fetches the clone has %d bytes, want at most twice the %d of a fresh one", pushes, old, young)
	}
	if n := countPacks(dir); n > 30 {
		t.Errorf("%d packs, want at most 30", n)
	}
	for _, left := range []string{".new", ".old"} {
		if _, err := os.Stat(dir + left); err == nil {
			t.Errorf("%s was left behind", dir+left)
		}
	}
	readAll(t, sync1(t, r).Tree)
}

// BenchmarkRatioFetch holds one more fetch into a clone of a thousand fetches, which has
// gathered nearly as many packs as it ever does, against the same into a clone made just before: at
// most 1.5 times as long. They alternate, and the ratio is the median of those of fifty pairs, since one fetch of 3 ms is
// easily disturbed: of fifteen pairs it was anything from 1.03 to 1.67. In CPU of this process it is 1.15.
func BenchmarkRatioFetch(b *testing.B) {
	rem, old, dir := aged(b, 1000)
	push := func(i int) {
		rem.Commit(map[string]string{"services/s1/unit.service": fmt.Sprint("bench ", i)}, "push", "")
	}
	i := 0
	age := func() (packs int) { // it is renewed at 20
		for ; ; i++ {
			if packs = countPacks(dir); packs >= 15 && packs < 20 {
				return packs
			}
			push(i)
			sync1(b, old)
		}
	}
	var base, ours []time.Duration
	for n := range 50 {
		packs := age()
		fresh := open(b, gitsync.Config{URL: rem.URL(), Dir: filepath.Join(b.TempDir(), "fresh.git")})
		sync1(b, fresh)
		push(i)
		i++
		for turn := range 2 {
			start := time.Now()
			if (turn+n)%2 == 0 {
				sync1(b, fresh)
				base = append(base, time.Since(start))
			} else {
				sync1(b, old)
				ours = append(ours, time.Since(start))
			}
		}
		if n := countPacks(dir); n < packs {
			b.Fatalf("the clone was renewed meanwhile: %d packs, then %d", packs, n)
		}
	}
	ratios := make([]float64, len(ours))
	for n := range ours {
		ratios[n] = float64(ours[n]) / float64(base[n])
	}
	slices.Sort(ratios)
	ratio := ratios[len(ratios)/2]
	b.ReportMetric(ratio, "ratio")
	b.Logf("old clone %v, fresh %v", ours, base)
	if ratio > 1.5 {
		b.Errorf("a fetch into the old clone took %.2f × one into a fresh one, want at most 1.5 ×", ratio)
	}
}
