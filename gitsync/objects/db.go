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
