package packages

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
)

// maxWindow is how far back a compressed stream may reach, in bytes: it is held in memory. xz -9 uses 64
// MiB, zstd --long 128.
const maxWindow = 128 << 20

// unpack writes the package p from the archive at file. The first bytes decide what the archive is, and
// the name that the repo knows it by only where they say nothing.
func (u *unpacker) unpack(p bundle.Package, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	if p.Kind == archive.File {
		return u.file(p.File, 0o755, f)
	}

	head, err := sniffHead(f)
	if err != nil {
		return err
	}

	switch is := archive.Sniff(head); {
	case is == archive.Zip || p.Kind == archive.Zip && is == "":
		err = u.unpackZip(f)
	case is == archive.Tar || p.Kind == archive.Tar && is == "":
		err = u.tar(tar.NewReader(f))
	case slices.Contains(compressions, is):
		err = u.unpackStream(p, f, is)
	default:
		return fmt.Errorf("it is no %s: its first bytes are those of %s", p.Kind, isWhat(is))
	}

	if err := errors.Join(err, u.checkLinks()); err != nil {
		return err
	}
	if u.written == 0 {
		return fmt.Errorf("nothing is in it, or nothing is left of it with strip: %d", u.strip)
	}

	return nil
}

// isWhat names what Sniff found for people.
func isWhat(is string) string {
	if is == "" {
		return "no archive"
	}
	return "a " + is
}

// sniffHead is the beginning of f, which is read from its start afterwards.
func sniffHead(f *os.File) ([]byte, error) {
	head := make([]byte, archive.SniffLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return head[:n], nil
}

var compressions = []string{archive.Gz, archive.Xz, archive.Zst, archive.Bz2}

// unpackStream writes a compressed tar, or one compressed file.
func (u *unpacker) unpackStream(p bundle.Package, f *os.File, how string) error {
	r, closer, err := decompress(f, how)
	if err != nil {
		return fmt.Errorf("read %s: %w", how, err)
	}
	defer closer()

	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(archive.SniffLen)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read %s: %w", how, err)
	}

	single := archive.IsSingle(p.Kind)
	inner := archive.Sniff(head)
	unknown := inner == "" && len(head) == archive.SniffLen
	switch {
	case inner == archive.Tar, !single && unknown: // a tar of before 1988 has no magic
		return u.tar(tar.NewReader(b))
	case !single:
		return fmt.Errorf("what is compressed is %s and no tar: write kind: %s for one compressed program", isWhat(inner), how)
	}

	return u.file(p.File, 0o755, b)
}

// decompress reads what f holds. No stream is let reach further back than maxWindow.
func decompress(f *os.File, how string) (r io.Reader, closer func(), err error) {
	closer = func() {}
	in := bufio.NewReaderSize(f, 64<<10)
	switch how {
	case archive.Gz:
		r, err = gzip.NewReader(in)
	case archive.Bz2:
		r = bzip2.NewReader(in)
	case archive.Zst:
		var z *zstd.Decoder
		z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			r, closer = z, z.Close
		}
	case archive.Xz:
		if err = CheckXz(in); err != nil {
			return nil, nil, err
		}
		if _, err = f.Seek(0, io.SeekStart); err != nil {
			return nil, nil, err
		}
		in.Reset(f)
		r, err = xz.NewReader(in)
	}

	return r, closer, err
}

func (u *unpacker) unpackZip(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := boundZip(f, st.Size(), u.caps.Entries); err != nil {
		return err
	}

	z, err := zip.NewReader(f, st.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	if err := disjoint(z.File); err != nil {
		return err
	}

	return u.zip(z)
}
