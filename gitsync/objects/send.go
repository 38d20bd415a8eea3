package objects

import (
	"bufio"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// Send writes a pack of objects of db to w, each of them whole: without deltas nothing of it
// has to be held in memory.
func Send(ctx context.Context, w io.Writer, db *DB, ids []plumbing.Hash) error {
	sum := sha1.New()
	buf := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	buf.WriteString("PACK\x00\x00\x00\x02")
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(ids)))
	buf.Write(n[:])

	z := zlib.NewWriter(buf)
	for _, id := range ids {
		z.Reset(buf)
		err := db.Copy(ctx, z, id, func(kind plumbing.ObjectType, size int64) error {
			return writeEntry(buf, kind, size)
		})
		if err != nil {
			return fmt.Errorf("send %s: %w", id.String()[:10], err)
		}
		if err := z.Close(); err != nil {
			return err
		}
	}

	if err := buf.Flush(); err != nil {
		return err
	}

	_, err := w.Write(sum.Sum(nil))
	return err
}

// writeEntry writes the head of an entry; see readEntry.
func writeEntry(w *bufio.Writer, kind plumbing.ObjectType, size int64) error {
	c := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		w.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}

	return w.WriteByte(c)
}
