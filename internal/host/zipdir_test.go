package host_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/packages"
)

// zipHeaders is a zip of n directory headers of empty entries, with an end record that says lie.
func zipHeaders(n int, lie uint16, zip64 bool) []byte {
	var buf bytes.Buffer
	header := make([]byte, 46)
	copy(header, "PK\x01\x02")
	for range n {
		buf.Write(header)
	}
	size := buf.Len()
	if zip64 {
		end := make([]byte, 56+20)
		copy(end, "PK\x06\x06")
		binary.LittleEndian.PutUint64(end[4:], 44)
		binary.LittleEndian.PutUint64(end[24:], uint64(lie))
		binary.LittleEndian.PutUint64(end[32:], uint64(lie))
		binary.LittleEndian.PutUint64(end[40:], uint64(size))
		copy(end[56:], "PK\x06\x07")
		binary.LittleEndian.PutUint64(end[56+8:], uint64(size))
		buf.Write(end)
	}
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint16(end[8:], lie)
	binary.LittleEndian.PutUint16(end[10:], lie)
	binary.LittleEndian.PutUint32(end[12:], uint32(size))
	if zip64 {
		binary.LittleEndian.PutUint32(end[12:], 1<<32-1)
		binary.LittleEndian.PutUint32(end[16:], 1<<32-1)
	}
	buf.Write(end)
	return buf.Bytes()
}

// unpackInto unpacks a package into the store at dir.
func unpackInto(dir string, caps packages.Caps, p bundle.Package, file string) (notes []string, err error) {
	s := &packages.Store{Dir: dir, Caps: caps, Syncfs: func(*os.File) error { return nil }}
	return s.Unpack(p, file)
}

// unpackFile unpacks bytes into a store of their own.
func unpackFile(t *testing.T, caps packages.Caps, kind string, data []byte) error {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "archive")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := unpackInto(filepath.Join(dir, "store"), caps, bundle.Package{Name: "bot", Digest: "d", Kind: kind}, file)
	return err
}

// A zip with millions of entries is refused in little memory, whatever its end record says.
func TestZipWithTooManyEntriesCostsNothing(t *testing.T) {
	const n = 1_000_000
	for _, c := range []struct {
		name  string
		lie   uint16
		zip64 bool
	}{
		{"a true count modulo 65536", n % 65536, false},
		{"no entries at all", 0, false},
		{"zip64", n % 65536, true},
	} {
		data := zipHeaders(n, c.lie, c.zip64)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := unpackFile(t, packages.Caps{}, "zip", data)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "more than 200000 entries") {
			t.Errorf("%s: %v, want a refusal of too many entries", c.name, err)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 8<<20 {
			t.Errorf("%s: it cost %d MiB", c.name, spent>>20)
		}
	}
}

// Entries that share their bytes are how a small zip becomes a large tree.
func TestZipWithEntriesThatOverlap(t *testing.T) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range []string{"a", "b"} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(bytes.Repeat([]byte{'x'}, 100_000))
	}
	w.Close()
	data := buf.Bytes()
	second := bytes.LastIndex(data, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(data[second+42:], 0) // its bytes are those of the first
	if err := unpackFile(t, packages.Caps{}, "zip", data); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("unpack = %v, want it refused: entries overlap", err)
	}
}

// A zip behind a program, as self-extracting ones are, is a zip.
func TestZipBehindSomethingElse(t *testing.T) {
	data := append(bytes.Repeat([]byte("#!"), 5000), archive(t, "zip", entry{name: "bin/bot", text: "x", mode: 0o755})...)
	if err := unpackFile(t, packages.Caps{}, "zip", data); err != nil {
		t.Error(err)
	}
}

// Folders that no entry of their own makes count too.
func TestPackageOfManyFolders(t *testing.T) {
	caps := packages.Caps{Bytes: 1 << 20, Entries: 500}
	var es []entry
	for i := range 60 {
		es = append(es, entry{name: fmt.Sprint("p/", i, "/", strings.Repeat("d/", 50)), kind: tar.TypeDir})
	}
	for _, kind := range kinds {
		if err := unpackFile(t, caps, kind, archive(t, kind, es...)); err == nil || !strings.Contains(err.Error(), "more than 500 entries and folders") {
			t.Errorf("%s: %v, want a refusal of too many folders", kind, err)
		}
	}
	deep := entry{name: strings.Repeat("d/", 101) + "x", text: "x"}
	for _, kind := range kinds {
		if err := unpackFile(t, caps, kind, archive(t, kind, deep)); err == nil || !strings.Contains(err.Error(), "folders deep") {
			t.Errorf("%s: %v, want a refusal of a deep entry", kind, err)
		}
	}
}
