// Package objects stores git objects and reads them, under bounds.
//
// A pack is a file of many objects; in it an object is whole, or a delta against another one.
// An index finds an object in its pack by id. A loose object is a file of its own.
//
// Its promise: whatever a pack claims or holds, memory stays small. An object's size is asked
// before its bytes are inflated; what is larger than MaxMemory while it is put together lies in
// a temporary file; how much is inflated in all, how many objects come, and how long a chain of
// deltas is, have limits. A file that nobody reads may be of any size: it costs time and disk.
package objects

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/internal/limits"
)

// The largest objects that Read returns, in bytes.
const (
	MaxBlob   = limits.RepoFile
	MaxTree   = 8 << 20
	MaxCommit = 1 << 20 // of a commit and of a tag
)

// MaxMemory is how many bytes of objects are held in memory while deltas are resolved.
const MaxMemory = 64 << 20

// Limits bound what one pack may cost. They hold while it arrives, before anything of it is
// used.
type Limits struct {
	Packed   int64 // bytes as they arrive; 0 is 1 GiB
	Inflated int64 // bytes of all objects together, and of the deltas; 0 is 16 GiB
	Objects  int   // 0 is 2,000,000
	Depth    int   // deltas on top of each other; 0 is 4,095, the most that git makes
	Scratch  int64 // bytes of temporary file; 0 is 4 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Packed == 0 {
		l.Packed = 1 << 30
	}

	if l.Inflated == 0 {
		l.Inflated = 16 << 30
	}

	if l.Objects == 0 {
		l.Objects = 2_000_000
	}

	if l.Depth == 0 {
		l.Depth = 4095
	}

	if l.Scratch == 0 {
		l.Scratch = 4 << 30
	}

	return l
}

// ErrNotFound says that there is no such object.
var ErrNotFound = plumbing.ErrObjectNotFound

// ErrLimit is in every error that says that a pack breaks one of Limits.
var ErrLimit = errors.New("over the limit")

// ErrDamaged is in every error that says that what lies on disk, or what arrived, is not what
// git writes.
var ErrDamaged = errors.New("damaged")

// ErrMalformed is in the error of an object that is stored well and holds what git would not
// write: somebody made it by hand, and another copy of it is no better.
var ErrMalformed = errors.New("malformed")

// TooLarge says that an object is larger than what Read returns.
type TooLarge struct {
	Kind  plumbing.ObjectType
	ID    plumbing.Hash
	Size  int64
	Limit int64
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("%s %s has %s: %ss are read up to %s", e.Kind, e.ID.String()[:10], Bytes(e.Size), e.Kind, Bytes(e.Limit))
}

// limitOf is the largest object of a kind that is read.
func limitOf(kind plumbing.ObjectType) int64 {
	switch kind {
	case plumbing.BlobObject:
		return MaxBlob
	case plumbing.TreeObject:
		return MaxTree
	}

	return MaxCommit
}

// Bytes is a number of bytes for a person: "12 MiB".
func Bytes(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}

	return fmt.Sprintf("%d bytes", n)
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

func over(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrLimit, fmt.Errorf(format, args...))
}
