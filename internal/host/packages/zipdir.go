package packages

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The directory of a zip stands at its end. archive/zip believes no count in it, and allocates
// for each header that it finds: so the headers are counted here first, in constant memory.

const (
	zipEnd          = "PK\x05\x06" // end of the directory
	zipEnd64        = "PK\x06\x06" // the same with 64-bit numbers
	zipEnd64Locator = "PK\x06\x07"
	zipHeader       = "PK\x01\x02" // of one entry

	zipEndLen     = 22
	zipLocatorLen = 20
	zipEnd64Len   = 56
	zipHeaderLen  = 46
	maxZipComment = 1<<16 - 1
)

// A zipDirectory is where the directory of a zip says that it lies.
type zipDirectory struct {
	at     int64  // of the record that says so, bytes from the start of the file
	offset uint64 // of the first header
	size   uint64 // of all headers, bytes
}

// boundZip refuses a zip with more than most entries, before anything is allocated for them.
func boundZip(r io.ReaderAt, size int64, most int) error {
	d, err := findZipDirectory(r, size)
	if err != nil {
		return err
	}
	if d.offset > uint64(size) || d.size > uint64(size) {
		return fmt.Errorf("%w: its directory lies outside", zip.ErrFormat)
	}

	// Where something stands before the archive, the offset counts from there, or does not: both
	// places are looked at, as archive/zip does.
	starts := []int64{int64(d.offset), d.at - int64(d.size)}
	for _, start := range starts {
		if start < 0 || start > size {
			continue
		}
		if err := countZipHeaders(io.NewSectionReader(r, start, size-start), most); err != nil {
			return err
		}
	}

	return nil
}

func findZipDirectory(r io.ReaderAt, size int64) (d zipDirectory, err error) {
	tail := make([]byte, min(size, zipEndLen+maxZipComment))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return d, err
	}

	for i := len(tail) - zipEndLen; i >= 0; i-- {
		if !bytes.HasPrefix(tail[i:], []byte(zipEnd)) {
			continue
		}

		comment := int(binary.LittleEndian.Uint16(tail[i+20:]))
		if i+zipEndLen+comment > len(tail) {
			continue
		}

		d.at = size - int64(len(tail)) + int64(i)
		d.size = uint64(binary.LittleEndian.Uint32(tail[i+12:]))
		d.offset = uint64(binary.LittleEndian.Uint32(tail[i+16:]))
		return readZipEnd64(r, size, d)
	}

	return d, zip.ErrFormat
}

// readZipEnd64 is d, or what the record with 64-bit numbers says where there is one.
func readZipEnd64(r io.ReaderAt, size int64, d zipDirectory) (zipDirectory, error) {
	var locator [zipLocatorLen]byte
	if d.at < zipLocatorLen {
		return d, nil
	}
	if _, err := r.ReadAt(locator[:], d.at-zipLocatorLen); err != nil {
		return d, err
	}

	at := binary.LittleEndian.Uint64(locator[8:])
	if string(locator[:4]) != zipEnd64Locator || at > uint64(size)-zipEnd64Len {
		return d, nil
	}

	var end [zipEnd64Len]byte
	if _, err := r.ReadAt(end[:], int64(at)); err != nil {
		return d, err
	}
	if string(end[:4]) != zipEnd64 {
		return d, nil
	}

	d.at = int64(at)
	d.size = binary.LittleEndian.Uint64(end[40:])
	d.offset = binary.LittleEndian.Uint64(end[48:])
	return d, nil
}

// countZipHeaders reads headers until something else comes.
func countZipHeaders(r io.Reader, most int) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 0; ; n++ {
		h, err := in.Peek(zipHeaderLen)
		if err != nil || string(h[:4]) != zipHeader {
			return nil // archive/zip says what is wrong with it
		}
		if n >= most {
			return tooMany(most)
		}

		more := 0
		for _, at := range []int{28, 30, 32} { // name, extra, comment
			more += int(binary.LittleEndian.Uint16(h[at:]))
		}

		if _, err := in.Discard(zipHeaderLen + more); err != nil {
			return nil
		}
	}
}

func tooMany(most int) error { return fmt.Errorf("more than %d entries and folders", most) }

// disjoint refuses a zip whose entries share bytes: a few megabytes would unpack to terabytes.
func disjoint(files []*zip.File) error {
	type extent struct{ from, to uint64 }
	var all []extent
	for _, f := range files {
		at, err := f.DataOffset()
		if err != nil {
			return fmt.Errorf("entry %.40q: %w", f.Name, err)
		}
		if f.CompressedSize64 > 0 {
			all = append(all, extent{uint64(at), uint64(at) + f.CompressedSize64})
		}
	}

	slices.SortFunc(all, func(a, b extent) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})

	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			return errors.New("entries of the zip overlap")
		}
	}

	return nil
}
