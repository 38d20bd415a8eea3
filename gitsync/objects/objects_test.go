package objects_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/objects"
)

// bare makes an empty repository and returns its objects folder.
func bare(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"HEAD": "ref: refs/heads/main\n", "config": "[core]\n\tbare = true\n\trepositoryformatversion = 0\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "objects")
}

func git(t testing.TB, dir string, stdin string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@y", "-c", "gc.auto=0"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, &errs)
	}
	return string(out)
}

// history makes a work tree with commits that git stores as deltas.
func history(t testing.TB) string {
	dir := t.TempDir()
	git(t, dir, "", "init", "-q", "-b", "main")
	rnd := rand.New(rand.NewPCG(1, 2))
	text := make([]string, 3000)
	for i := range text {
		text[i] = fmt.Sprintf("line %d: %x", i, rnd.Uint64())
	}
	for version := range 30 {
		text[rnd.IntN(len(text))] = fmt.Sprint("version ", version)
		for name, content := range map[string]string{"big": strings.Join(text, "\n"), "sub/small": fmt.Sprint(version), "empty": ""} {
			file := filepath.Join(dir, name)
			os.MkdirAll(filepath.Dir(file), 0o755)
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git(t, dir, "", "add", ".")
		git(t, dir, "", "commit", "-q", "-m", fmt.Sprint("version ", version))
	}
	return dir
}

// What git packs is stored, indexed and read as git does it: deltas by offset and by id.
func TestGitPacks(t *testing.T) {
	work := history(t)
	ids := git(t, work, "", "rev-list", "--objects", "--no-object-names", "--all")
	for name, args := range map[string][]string{
		"by offset": {"pack-objects", "--delta-base-offset", "--stdout", "-q"},
		"by id":     {"pack-objects", "--stdout", "-q"},
		"whole":     {"pack-objects", "--stdout", "-q", "--window=0"},
		"deep":      {"pack-objects", "--stdout", "-q", "--depth=4000", "--window=50"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := bare(t)
			pack := git(t, work, ids, args...)
			if err := objects.Receive(t.Context(), dir, strings.NewReader(pack), objects.Limits{}); err != nil {
				t.Fatal(err)
			}
			git(t, filepath.Dir(dir), "", "fsck", "--strict", "--full")
			readsAs(t, work, dir, strings.Fields(ids))
			if left, _ := filepath.Glob(dir + "/pack/tmp_*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// readsAs holds every object of dir against what git says of it.
func readsAs(t *testing.T, work, dir string, ids []string) {
	t.Helper()
	db := objects.Open(dir, t.TempDir())
	defer db.Close()
	for _, id := range ids {
		h := plumbing.NewHash(id)
		kind, size, err := db.Stat(h)
		if err != nil {
			t.Fatalf("Stat(%s) = %v", id, err)
		}
		want := git(t, work, "", "cat-file", kind.String(), id)
		got, err := db.Read(t.Context(), kind, h)
		if err != nil || string(got) != want || size != int64(len(want)) {
			t.Fatalf("Read(%s %s) = %d bytes (Stat says %d), %v; want %d", kind, id, len(got), size, err, len(want))
		}
		found, err := db.WithPrefix(id[:9])
		if err != nil || len(found) != 1 || found[0] != h {
			t.Fatalf("WithPrefix(%s) = %v, %v", id[:9], found, err)
		}
	}
}

// A repository with loose objects, packs and objects borrowed from another is copied.
func TestSend(t *testing.T) {
	lender := history(t)
	git(t, lender, "", "gc", "-q")
	work := t.TempDir()
	git(t, work, "", "clone", "-q", "--shared", lender, ".")
	os.WriteFile(filepath.Join(work, "more"), []byte("loose"), 0o644)
	git(t, work, "", "add", ".")
	git(t, work, "", "commit", "-q", "-m", "loose")
	head := plumbing.NewHash(strings.TrimSpace(git(t, work, "", "rev-parse", "HEAD")))

	src := objects.Open(filepath.Join(work, ".git", "objects"), t.TempDir())
	defer src.Close()
	dir := bare(t)
	dst := objects.Open(dir, t.TempDir())
	ids, err := objects.Missing(t.Context(), dst, src, head, nil, objects.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(objects.Send(context.Background(), w, src, ids)) }()
	if err := objects.Receive(t.Context(), dir, r, objects.Limits{}); err != nil {
		t.Fatal(err)
	}
	git(t, filepath.Dir(dir), "", "fsck", "--strict", "--full")
	readsAs(t, work, dir, strings.Fields(git(t, work, "", "rev-list", "--objects", "--no-object-names", "HEAD")))

	if _, err := objects.Missing(t.Context(), dst, src, head, nil, objects.Limits{Objects: 10}); !errors.Is(err, objects.ErrLimit) {
		t.Errorf("Missing with a limit of 10 objects = %v, want ErrLimit", err)
	}
}

// ---- packs that no git writes

// A packer writes a pack by hand.
type packer struct {
	buf   bytes.Buffer
	count uint32 // said in the head; 0: the true one
	n     uint32
	at    []int
}

func (p *packer) head(kind int, size int64) {
	if p.buf.Len() == 0 {
		p.buf.Write(make([]byte, 12))
	}
	p.at = append(p.at, p.buf.Len())
	p.n++
	c := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.buf.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	p.buf.WriteByte(c)
}

func (p *packer) deflate(b []byte) {
	z := zlib.NewWriter(&p.buf)
	z.Write(b)
	z.Close()
}

func (p *packer) whole(kind plumbing.ObjectType, b []byte) {
	p.head(int(kind), int64(len(b)))
	p.deflate(b)
}

// claim is an entry that says another size than it has.
func (p *packer) claim(kind plumbing.ObjectType, size int64, b []byte) {
	p.head(int(kind), size)
	p.deflate(b)
}

// onto is a delta against the nth entry.
func (p *packer) onto(n int, delta []byte) {
	p.head(int(plumbing.OFSDeltaObject), int64(len(delta)))
	back := p.at[len(p.at)-1] - p.at[n]
	b := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		b = append([]byte{0x80 | byte(back&0x7f)}, b...)
	}
	p.buf.Write(b)
	p.deflate(delta)
}

func (p *packer) ontoID(id plumbing.Hash, delta []byte) {
	p.head(int(plumbing.REFDeltaObject), int64(len(delta)))
	p.buf.Write(id[:])
	p.deflate(delta)
}

func (p *packer) bytes() []byte {
	b := p.buf.Bytes()
	copy(b, "PACK\x00\x00\x00\x02")
	count := p.count
	if count == 0 {
		count = p.n
	}
	binary.BigEndian.PutUint32(b[8:], count)
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func number(n int64) []byte {
	var b []byte
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// delta makes a result by copying the base's first bytes, 64 KiB at most, again and again.
func delta(base, result int64) []byte {
	d := append(number(base), number(result)...)
	piece := min(base, 0xffff)
	for ; result > 0; result -= piece {
		n := min(piece, result)
		d = append(d, 0x80|0x30, byte(n), byte(n>>8))
	}
	return d
}

func TestHostilePacks(t *testing.T) {
	blob := []byte(strings.Repeat("a", 1000))
	id := plumbing.ComputeHash(plumbing.BlobObject, blob)
	small := objects.Limits{Packed: 1 << 20, Inflated: 1 << 20, Objects: 100, Depth: 50, Scratch: 1 << 20}
	for name, c := range map[string]struct {
		make func(p *packer)
		want error
		text string
	}{
		"too many objects":    {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.count = 4e9 }, objects.ErrLimit, "4000000000 objects"},
		"fewer than said":     {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.count = 3 }, objects.ErrDamaged, ""},
		"larger than said":    {func(p *packer) { p.claim(plumbing.BlobObject, 10, blob) }, objects.ErrDamaged, "larger than it says"},
		"smaller than said":   {func(p *packer) { p.claim(plumbing.BlobObject, 1001, blob) }, objects.ErrDamaged, "shorter than it says"},
		"says a petabyte":     {func(p *packer) { p.claim(plumbing.BlobObject, 1<<50, blob) }, objects.ErrLimit, "1 MiB together"},
		"2 MiB in all":        {func(p *packer) { p.whole(plumbing.BlobObject, make([]byte, 2<<20)) }, objects.ErrLimit, "1 MiB together"},
		"unknown kind":        {func(p *packer) { p.whole(5, blob) }, objects.ErrDamaged, "unknown kind 5"},
		"delta makes 1 TiB":   {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.onto(0, append(number(1000), number(1<<40)...)) }, objects.ErrLimit, "together"},
		"delta makes 2 MiB":   {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.onto(0, delta(1000, 2<<20)) }, objects.ErrLimit, "together"},
		"delta of other base": {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.onto(0, delta(999, 5)) }, objects.ErrDamaged, "base of 999"},
		"delta copies beyond": {func(p *packer) {
			p.whole(plumbing.BlobObject, blob)
			p.onto(0, append(append(number(1000), number(2000)...), 0x80|0x30, 0xd0, 0x07))
		}, objects.ErrDamaged, "not there"},
		"delta too short":     {func(p *packer) { p.whole(plumbing.BlobObject, blob); p.onto(0, append(delta(1000, 900), 5)) }, objects.ErrDamaged, ""},
		"thin":                {func(p *packer) { p.ontoID(plumbing.NewHash(strings.Repeat("ab", 20)), delta(1000, 5)) }, objects.ErrDamaged, "does not hold"},
		"based on each other": {func(p *packer) { p.ontoID(plumbing.NewHash(strings.Repeat("cd", 20)), delta(5, 5)) }, objects.ErrDamaged, "does not hold"},
		"deltas 60 deep": {func(p *packer) {
			p.whole(plumbing.BlobObject, blob)
			for i := range 60 {
				p.onto(i, delta(1000, 1000))
			}
		}, objects.ErrLimit, "50 deltas deep"},
		"deltas by id, 60 deep": {func(p *packer) {
			p.whole(plumbing.BlobObject, blob)
			last := blob
			for range 60 {
				d := append(append(number(int64(len(last))), number(int64(len(last)+1))...), 0x80|0x30, byte(len(last)), byte(len(last)>>8), 1, 'x')
				p.ontoID(plumbing.ComputeHash(plumbing.BlobObject, last), d)
				last = append(bytes.Clone(last), 'x')
			}
		}, objects.ErrLimit, "50 deltas deep"},
		"the same twice": {func(p *packer) {
			p.whole(plumbing.BlobObject, blob)
			p.whole(plumbing.BlobObject, blob)
			p.ontoID(id, delta(1000, 5))
			p.ontoID(id, delta(1000, 5))
		}, nil, ""},
		"no object": {func(p *packer) { p.buf.Write(make([]byte, 12)) }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &packer{}
			c.make(p)
			dir := bare(t)
			err := objects.Receive(t.Context(), dir, bytes.NewReader(p.bytes()), small)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("Receive = %v, want %v with %q", err, c.want, c.text)
			}
			stored, _ := filepath.Glob(dir + "/pack/*")
			if err != nil && len(stored) > 0 {
				t.Errorf("a refused pack left %v", stored)
			}
			if err == nil && len(stored) > 0 {
				db := objects.Open(dir, t.TempDir())
				if got, err := db.Read(t.Context(), plumbing.BlobObject, id); err != nil || !bytes.Equal(got, blob) {
					t.Errorf("Read = %q, %v", got, err)
				}
				db.Close()
			}
		})
	}
	p := &packer{}
	p.whole(plumbing.BlobObject, blob)
	b := p.bytes()
	for name, bad := range map[string][]byte{"cut": b[:len(b)-30], "cut in the sum": b[:len(b)-3], "empty": nil, "wrong sum": append(bytes.Clone(b[:len(b)-1]), b[len(b)-1]^1)} {
		if err := objects.Receive(t.Context(), bare(t), bytes.NewReader(bad), small); !errors.Is(err, objects.ErrDamaged) {
			t.Errorf("%s: Receive = %v, want ErrDamaged", name, err)
		}
	}
}

// allocated runs f and says how many bytes it allocated in all, which is more than it held.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Objects of any size pass without memory, and are refused by whoever wants to read them.
func TestLargeObjectsCostNoMemory(t *testing.T) {
	const size = 128 << 20
	zeros := make([]byte, size)
	p := &packer{}
	p.whole(plumbing.BlobObject, zeros)
	p.onto(0, delta(size, size-1))  // a large file, changed
	p.onto(0, delta(size, 100<<10)) // a small one that is based on it
	pack := p.bytes()
	if len(pack) > 1<<20 {
		t.Fatalf("the pack has %d bytes", len(pack))
	}
	large, small := plumbing.ComputeHash(plumbing.BlobObject, zeros), plumbing.ComputeHash(plumbing.BlobObject, zeros[:100<<10])
	dir := bare(t)
	var err error
	cost := allocated(func() { err = objects.Receive(t.Context(), dir, bytes.NewReader(pack), objects.Limits{}) })
	if err != nil || cost > 24<<20 {
		t.Fatalf("Receive = %v, and allocated %d MiB, want at most 24", err, cost>>20)
	}

	db := objects.Open(dir, t.TempDir())
	defer db.Close()
	cost = allocated(func() {
		var tooLarge *objects.TooLarge
		if _, err := db.Read(t.Context(), plumbing.BlobObject, large); !errors.As(err, &tooLarge) || tooLarge.Size != size {
			t.Errorf("Read(large) = %v, want TooLarge", err)
		}
		if b, err := db.Read(t.Context(), plumbing.BlobObject, small); err != nil || len(b) != 100<<10 {
			t.Errorf("Read(small, based on large) = %d bytes, %v", len(b), err)
		}
		if err := db.Copy(t.Context(), io.Discard, large, func(plumbing.ObjectType, int64) error { return nil }); err != nil {
			t.Errorf("Copy(large) = %v", err)
		}
	})
	if cost > 8<<20 {
		t.Errorf("reading allocated %d MiB, want at most 8", cost>>20)
	}
}

// FuzzReceive: whatever arrives is stored whole or refused, and its cost follows its limits.
func FuzzReceive(f *testing.F) {
	blob := []byte("a blob of some length")
	for _, make := range []func(p *packer){
		func(p *packer) { p.whole(plumbing.BlobObject, blob) },
		func(p *packer) { p.whole(plumbing.BlobObject, blob); p.onto(0, delta(int64(len(blob)), 5)) },
		func(p *packer) {
			p.ontoID(plumbing.ComputeHash(plumbing.BlobObject, blob), delta(int64(len(blob)), 5))
			p.whole(plumbing.BlobObject, blob)
		},
	} {
		p := &packer{}
		make(p)
		f.Add(p.bytes()[:p.buf.Len()])
	}
	f.Fuzz(func(t *testing.T, pack []byte) {
		sum := sha1.Sum(pack)
		pack = append(bytes.Clone(pack), sum[:]...) // or no mutation gets past the checksum
		dir := bare(t)
		limits := objects.Limits{Packed: 1 << 20, Inflated: 4 << 20, Objects: 1000, Depth: 50, Scratch: 1 << 20}
		var err error
		cost := allocated(func() { err = objects.Receive(t.Context(), dir, bytes.NewReader(pack), limits) })
		if cost > 64<<20 {
			t.Errorf("%d bytes allocated %d MiB", len(pack), cost>>20)
		}
		if err != nil && !errors.Is(err, objects.ErrDamaged) && !errors.Is(err, objects.ErrLimit) {
			t.Errorf("Receive = %v, want ErrDamaged or ErrLimit", err)
		}
	})
}

func FuzzParseTree(f *testing.F) {
	f.Add("100644 a\x0012345678901234567890")
	f.Add("40000 \xff/..\x0012345678901234567890120000 b\x00")
	f.Add(" \x0000000000000000000000")
	f.Fuzz(func(t *testing.T, raw string) {
		entries, err := objects.ParseTree(raw)
		if err == nil && len(entries)*23 > len(raw) {
			t.Errorf("%d entries from %d bytes", len(entries), len(raw))
		}
	})
}
