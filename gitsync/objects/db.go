package objects

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
)

// A DB is the objects of one repository, and of those that it borrows from. It sees the packs
// that were there when it was opened. It may be used from many goroutines.
type DB struct {
	dir   string   // its own objects folder
	dirs  []string // that and those of alternates, in order
	temp  string   // folder for temporary files
	packs []*pack
	cause error            // why a pack could not be opened
	bases *cache.BufferLRU // contents that deltas are based on
}

// Open opens the objects folder of a repository. Temporary files are made in temp. A pack that
// can't be opened is told by the reads that miss an object.
func Open(dir, temp string) *DB {
	db := &DB{dir: dir, temp: temp, bases: cache.NewBufferLRU(16 * cache.MiByte)}
	db.dirs = alternates(dir, 0)
	for _, d := range db.dirs {
		names, _ := filepath.Glob(filepath.Join(escapeGlob(d), "pack", "*.idx"))
		for _, name := range names {
			p, err := openPack(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // git is about to remove it
			}
			if err != nil {
				db.cause = err
				continue
			}
			db.packs = append(db.packs, p)
		}
	}
	return db
}

func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// alternates lists a folder of objects and those that its info/alternates names, as deep as
// git goes.
func alternates(dir string, depth int) []string {
	const deepest = 5
	dirs := []string{dir}
	b, err := os.ReadFile(filepath.Join(dir, "info", "alternates"))
	if err != nil || depth >= deepest || len(b) > 1<<20 {
		return dirs
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		for _, d := range alternates(filepath.Clean(line), depth+1) {
			if !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

// Close closes the packs.
func (db *DB) Close() {
	if db == nil {
		return
	}
	for _, p := range db.packs {
		p.close()
	}
}

// Has says whether there is an object.
func (db *DB) Has(id plumbing.Hash) bool {
	_, found, err := db.find(id)
	if err == nil && found {
		return true
	}
	_, err = os.Lstat(db.loose(id))
	return err == nil
}

// find finds an object in the packs.
func (db *DB) find(id plumbing.Hash) (entry, bool, error) {
	var broken error
	for _, p := range db.packs {
		at, found, err := p.idx.find(id)
		if err == nil && found {
			e, err := p.entry(at)
			return e, true, err
		}
		if err != nil {
			broken = err
		}
	}
	return entry{}, false, broken
}

// loose is the file of a loose object, in the first folder that has it.
func (db *DB) loose(id plumbing.Hash) string {
	name := id.String()
	for _, d := range db.dirs {
		file := filepath.Join(d, name[:2], name[2:])
		if _, err := os.Lstat(file); err == nil {
			return file
		}
	}
	return filepath.Join(db.dir, name[:2], name[2:])
}

// Stat gives an object's kind and size. It inflates a few bytes.
func (db *DB) Stat(id plumbing.Hash) (plumbing.ObjectType, int64, error) {
	o, err := db.open(id)
	if err != nil {
		return 0, 0, err
	}
	o.close()
	return o.kind, o.size, nil
}

// An object is one that was found: its kind and size, and where its bytes come from.
type object struct {
	kind  plumbing.ObjectType
	size  int64
	chain []entry   // packed: the object's entry, then the base of each delta
	loose *inflater // behind its head
	file  *os.File  // of loose
}

func (o *object) close() {
	if o.loose != nil {
		o.loose.Close()
	}
	if o.file != nil {
		o.file.Close()
	}
}

func (db *DB) open(id plumbing.Hash) (*object, error) {
	e, found, err := db.find(id)
	if found && err == nil {
		return db.openPacked(e)
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", id.String()[:10], err)
	}
	o, err := db.openLoose(id)
	if errors.Is(err, ErrNotFound) && db.cause != nil {
		return nil, db.cause
	}
	return o, err
}

// openPacked follows the deltas of an entry down to what is whole.
func (db *DB) openPacked(e entry) (*object, error) {
	o := &object{size: e.size, chain: []entry{e}}
	if e.isDelta() {
		d, err := e.open()
		if err != nil {
			return nil, err
		}
		_, o.size, err = deltaHead(byteReader(d))
		d.Close()
		if err != nil {
			return nil, err
		}
	}
	for e.isDelta() {
		var err error
		if e, err = db.base(e); err != nil {
			return nil, err
		}
		if o.chain = append(o.chain, e); len(o.chain) > 4096 {
			return nil, over("an object of pack %s is more than 4,095 deltas deep", filepath.Base(e.pack.name))
		}
	}
	o.kind = e.kind
	return o, nil
}

// base is what a delta is based on.
func (db *DB) base(e entry) (entry, error) {
	if e.kind == plumbing.OFSDeltaObject {
		return e.pack.entry(e.base)
	}
	at, found, err := e.pack.idx.find(e.ref)
	if err == nil && !found {
		err = broken("a delta's base %s is not in its pack", e.ref.String()[:10])
	}
	if err != nil {
		return entry{}, err
	}
	return e.pack.entry(at)
}

// openLoose reads the head of a loose object: "blob 12\0".
func (db *DB) openLoose(id plumbing.Hash) (*object, error) {
	f, err := os.Open(db.loose(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o := &object{file: f}
	if err := o.readLooseHead(); err != nil {
		o.close()
		return nil, fmt.Errorf("object %s: %w", id.String()[:10], err)
	}
	return o, nil
}

func (o *object) readLooseHead() (err error) {
	if o.loose, err = inflate(byteReader(o.file), 1<<62); err != nil {
		return err
	}
	var head []byte
	for b := make([]byte, 1); len(head) < 32; head = append(head, b[0]) {
		if _, err := io.ReadFull(o.loose, b); err != nil {
			return broken("its head can't be read: %w", err)
		}
		if b[0] == 0 {
			break
		}
	}
	kind, size, _ := strings.Cut(string(head), " ")
	if _, err := fmt.Sscanf(size, "%d", &o.size); err != nil || o.size < 0 {
		return broken("its head is none")
	}
	if o.kind, err = plumbing.ParseObjectType(kind); err != nil {
		return broken("its kind is unknown")
	}
	o.loose.left = o.size
	return nil
}

// Read reads an object of a kind, which must not be larger than what is read of it, and proves
// that its bytes are those of its id. The caller may keep the bytes.
func (db *DB) Read(ctx context.Context, kind plumbing.ObjectType, id plumbing.Hash) ([]byte, error) {
	o, err := db.open(id)
	if err != nil {
		return nil, err
	}
	defer o.close()

	if o.kind != kind {
		return nil, db.blame(ctx, id, fmt.Errorf("%s is a %s, not a %s", id.String()[:10], o.kind, kind))
	}
	if limit := limitOf(kind); o.size > limit {
		return nil, &TooLarge{kind, id, o.size, limit}
	}
	b := bytes.NewBuffer(make([]byte, 0, o.size))
	if err := db.copy(ctx, b, o, maxReadChain); err != nil {
		return nil, fmt.Errorf("object %s: %w", id.String()[:10], err)
	}
	if idOf(kind, b.Bytes()) != id {
		return nil, broken("object %s does not hold what its id says", id.String()[:10])
	}
	return b.Bytes(), nil
}

// blame says of an object that is not what it should be whether somebody made it so, or the disk:
// the bytes of a made one have its id.
func (db *DB) blame(ctx context.Context, id plumbing.Hash, what error) error {
	h := sha1.New()
	err := db.Copy(ctx, h, id, func(kind plumbing.ObjectType, size int64) error {
		_, err := fmt.Fprintf(h, "%s %d\x00", kind, size)
		return err
	})
	if err == nil && plumbing.Hash(h.Sum(nil)) == id {
		return fmt.Errorf("%w: %w", ErrMalformed, what)
	}
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrDamaged, what, err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, what)
}

func idOf(kind plumbing.ObjectType, b []byte) plumbing.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(b))
	h.Write(b)
	return plumbing.Hash(h.Sum(nil))
}

// Copy writes an object of any size to w, and returns its kind. start is told kind and size
// before the first byte.
func (db *DB) Copy(ctx context.Context, w io.Writer, id plumbing.Hash, start func(plumbing.ObjectType, int64) error) error {
	o, err := db.open(id)
	if err != nil {
		return err
	}
	defer o.close()

	if err := start(o.kind, o.size); err != nil {
		return err
	}
	if err := db.copy(ctx, w, o, maxCopyChain); err != nil {
		return fmt.Errorf("object %s: %w", id.String()[:10], err)
	}
	return nil
}

// How many bytes the results of one object's deltas may have together: fifty versions of the
// largest file that is read, and more for what is only copied.
const (
	maxReadChain = 2 << 30
	maxCopyChain = 16 << 30
)

// copy writes an object's bytes.
func (db *DB) copy(ctx context.Context, w io.Writer, o *object, most int64) error {
	if o.loose != nil {
		return copyAll(ctx, w, o.loose)
	}
	if len(o.chain) == 1 {
		return inflateTo(ctx, w, o.chain[0])
	}

	s := &scratch{dir: db.temp, memory: MaxMemory, disk: 4 << 30}
	defer s.close()
	base, last, n, err := db.lowest(ctx, s, o)
	if err != nil {
		return err
	}
	var sum int64
	for ; n > 0; n-- {
		next, err := db.patch(ctx, s, o.chain[n], base)
		if err != nil {
			return err
		}
		if sum += next.size; sum > most {
			return over("its deltas make more than %s", Bytes(most))
		}
		if last != nil {
			s.forget(last)
		}
		base, last = next.content(), next
		db.remember(o.chain[n], next)
	}
	return db.patchTo(ctx, w, o.chain[0], base)
}

// lowest is the content of the deepest entry that is not at hand, and the number of the delta
// above it; the entry with number 0 is the object itself.
func (db *DB) lowest(ctx context.Context, s *scratch, o *object) (content, *slot, int, error) {
	for n := 1; n < len(o.chain); n++ {
		if b, ok := db.bases.Get(db.key(o.chain[n])); ok {
			return bytes.NewReader(b), nil, n - 1, nil
		}
	}
	bottom := len(o.chain) - 1
	e := o.chain[bottom]
	t, err := s.push(e.size)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := inflateTo(ctx, t, e); err != nil {
		return nil, nil, 0, err
	}
	db.remember(e, t)
	return t.content(), t, bottom - 1, nil
}

// key names an entry among those of all packs.
func (db *DB) key(e entry) int64 {
	return int64(slices.Index(db.packs, e.pack))<<48 | e.at
}

// remember keeps a small content for other deltas on the same base.
func (db *DB) remember(e entry, t *slot) {
	const small = 1 << 20
	if b, ok := t.bytes(); ok && len(b) <= small {
		db.bases.Put(db.key(e), b)
	}
}

// patch makes a content of a delta and its base.
func (db *DB) patch(ctx context.Context, s *scratch, e entry, base content) (*slot, error) {
	d, err := e.open()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	r := byteReader(d)
	size, err := checkHead(r, base)
	if err != nil {
		return nil, err
	}
	t, err := s.push(size)
	if err != nil {
		return nil, err
	}
	return t, (&patch{base: base, size: size, delta: r}).apply(ctx, t)
}

// patchTo is patch that writes what it makes.
func (db *DB) patchTo(ctx context.Context, w io.Writer, e entry, base content) error {
	d, err := e.open()
	if err != nil {
		return err
	}
	defer d.Close()
	r := byteReader(d)
	size, err := checkHead(r, base)
	if err != nil {
		return err
	}
	return (&patch{base: base, size: size, delta: r}).apply(ctx, w)
}

// checkHead reads a delta's head, and the size of what it makes.
func checkHead(r io.ByteReader, base content) (int64, error) {
	of, size, err := deltaHead(r)
	if err == nil && of != base.Size() {
		err = broken("a delta is for a base of %d bytes, which has %d", of, base.Size())
	}
	return size, err
}

func inflateTo(ctx context.Context, w io.Writer, e entry) error {
	r, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close()
	return copyAll(ctx, w, r)
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyAll is io.Copy that ends with ctx.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) error {
	kept := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(kept)
	for buf := kept[:]; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// WithPrefix lists the objects whose id begins as the hexadecimal text does, which has two
// digits at least. It stops at a hundred.
func (db *DB) WithPrefix(prefix string) ([]plumbing.Hash, error) {
	const most = 100
	var first [1]byte
	if _, err := fmt.Sscanf(prefix[:2], "%02x", &first[0]); err != nil {
		return nil, fmt.Errorf("%q is not the start of an id", prefix)
	}
	var found []plumbing.Hash
	for _, p := range db.packs {
		ids, err := p.idx.withPrefix(prefix, first[0], most)
		if err != nil {
			return nil, err
		}
		found = append(found, ids...)
	}
	for _, d := range db.dirs {
		files, _ := os.ReadDir(filepath.Join(d, prefix[:2]))
		for _, f := range files {
			if name := prefix[:2] + f.Name(); len(name) == 40 && strings.HasPrefix(name, prefix) && len(found) < most {
				found = append(found, plumbing.NewHash(name))
			}
		}
	}
	slices.SortFunc(found, func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(found), nil
}
