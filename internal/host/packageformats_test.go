package host_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	formats "bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/host/packages"
)

// Archives as the tools make them, which no library here writes: p.tar holds p/bin/bot and p/notes.
const (
	tarBz2       = "QlpoOTFBWSZTWU30aqEAAMx7gcuQAgBoAPeAALF6Yd5AAAgECCAAkglI1NACaAekeTU0eo9QSRU9I0N6UNADJ6h6hplWsE7xrIBrmBJrUhIluvNDMawJjycLAzgkMAUikrgqDh745V+Lo7taTgEljjSkAg4K5Skr6otqYrXYj02cl17K2DUQ7hEJxUlhOE02S5Vf7gU+hnb+DenAG20CzmCB/F3JFOFCQTfRqoQ="
	tarXz        = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4Cf/AKJdADgLvBunjDRE4cIHdej848CSZS+7nIYsGs3nmDWjS0c0pNMP+4XMwccn2QhLjawGtpydW/qQqk8gJF1qsD7HRlN2ukW6JJCvJTkEqJvbnsjwcDwj0zJcdPZ+8424vjB06ovSoS3ypXt3y3SJNIbJBDSIT/afeChRJU/RnxfWjet3a10qYIgNEkcDsU4FZ6bneCtUsE+VM77dsL+rA/4p9b0AAAAAAJxzc0cjVwmFAAG+AYBQAADjFxBfscRn+wIAAAAABFla"
	progBz2      = "QlpoOTFBWSZTWY9NzvcAAAJRgAAQaACaYYgAIAAimAGQgGgDMEvIsOdOkrfC7kinChIR6bne4A=="
	progXzSHA256 = "/Td6WFoAAArh+wyhAgAhARYAAAB0L+WjAQARIyEvYmluL3NoCmVjaG8gaGkKAAAAKZABho+4wC/UMcM2xtBY9VWMXf9bWvXm/gS4cKapy7oAAUIS5OlwERibS5oBAAAAAApZWg=="
	xz512MiB     = "/Td6WFoAAATm1rRGAgAhASIAAACCQKzcAQARIyEvYmluL3NoCmVjaG8gaGkKAAAA2hwQFPRCMtkAASoSSwhUvB+2830BAAAAAARZWg=="
	sparseGNU    = "H4sIAAAAAAACA+3QQQ6CQAwF0B5ljsDI4EU4gTcwgInHZ4ILDLoiQUPy3uY3XbRpx3scrqmupSxZbTK/9151bktpIvXxA49xug0pxd/Ui7vvH8mXzceWeseCddCHZwAAAAAAAAAAAHBGM/Vp2EUAKAAA"
	sparsePAX    = "H4sIAAAAAAACA+3UTWrDMBQEYK11Cp9AfvqvFt62WZVCyAFEq4VLkhopBZPTV3VCaF3oqimYzLeRmWcwshiJ9imOqxRfUi5tGdg1UOWMmdZqvpLS7vI85ZIcGdaM7B+8l0PM9fPsNinVPDxuRBliLkns4utb7iSfpf2+pjRL93GXujJw/S3NKW5Lf0ydouClVcQ1NfHQ13elDzYES14LZ7wy2ljzOX3+MdXhPGVwZaKth7eezu6+3yahyDn7xxfB7/2X8utdcOq/8s6zhpbU//nmltJ/LsncWe+IGwqOX2pLKN8tGPELAAAAAAAAAAAAAAAAAAAAFu8D8K53xwAoAAA="
)

const hiProgram = "#!/bin/sh\necho hi\n"

func fixture(t testing.TB, s string) []byte {
	t.Helper()
	p, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compress writes p by the kind's last word.
func compress(t testing.TB, how string, p []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case "gz":
		w = gzip.NewWriter(&buf)
	case "xz":
		w, err = xz.NewWriter(&buf)
	case "zst":
		w, err = zstd.NewWriter(&buf)
	}
	if err == nil {
		_, err = w.Write(p)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func rawTar(t testing.TB, es ...entry) []byte {
	var buf bytes.Buffer
	writeTar(t, &buf, es)
	return buf.Bytes()
}

// unpackAs is what a package of that kind becomes, with what is said of it.
func unpackAs(t testing.TB, caps packages.Caps, p bundle.Package, archive []byte) (map[string]string, []string, error) {
	t.Helper()
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	file := filepath.Join(dir, "archive")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}

	p.Name, p.Digest = "bot", "d"
	notes, err := unpackInto(store, caps, p, file)
	if err != nil {
		left, _ := os.ReadDir(store)
		if len(left) > 0 {
			t.Errorf("%v, and %s is left", err, left[0].Name())
		}
		return nil, nil, err
	}
	return unpacked(t, filepath.Join(store, packages.Name(p))), notes, nil
}

// The first bytes decide what an archive is, and what the repo calls it only where they say nothing.
func TestPackageFormats(t *testing.T) {
	plain := rawTar(t, entry{name: "p/bin/bot", text: hiProgram, mode: 0o755}, entry{name: "p/notes", text: "text\n"})
	tree := map[string]string{"bin": "dir", "bin/bot": "755 " + hiProgram, "notes": "644 text\n"}
	one := map[string]string{"bot": "755 " + hiProgram}
	zipped := archive(t, "zip", entry{name: "p/bin/bot", text: hiProgram, mode: 0o755}, entry{name: "p/notes", text: "text\n"})

	for name, c := range map[string]struct {
		kinds   []string
		archive []byte
		want    map[string]string
	}{
		"tar":                 {[]string{"tar", "tar.gz", "tar.xz", "zip"}, plain, tree},
		"tar.gz":              {[]string{"tar.gz", "tar.xz", "tar.zst", "tar", "zip", "gz", "xz"}, compress(t, "gz", plain), tree},
		"tar.xz":              {[]string{"tar.xz", "tar.gz", "xz"}, fixture(t, tarXz), tree},
		"tar.xz of Go":        {[]string{"tar.xz"}, compress(t, "xz", plain), tree},
		"tar.zst":             {[]string{"tar.zst", "tar.gz", "zst"}, compress(t, "zst", plain), tree},
		"tar.bz2":             {[]string{"tar.bz2", "tar.gz", "bz2"}, fixture(t, tarBz2), tree},
		"zip":                 {[]string{"zip", "tar.gz"}, zipped, tree},
		"one program, gz":     {[]string{"gz", "xz"}, compress(t, "gz", []byte(hiProgram)), one},
		"one program, xz":     {[]string{"xz"}, fixture(t, progXzSHA256), one},
		"one program, zst":    {[]string{"zst"}, compress(t, "zst", []byte(hiProgram)), one},
		"one program, bz2":    {[]string{"bz2"}, fixture(t, progBz2), one},
		"two streams, xz":     {[]string{"xz"}, append(compress(t, "xz", []byte(hiProgram[:5])), compress(t, "xz", []byte(hiProgram[5:]))...), one},
		"padding, xz":         {[]string{"xz"}, append(append(compress(t, "xz", []byte(hiProgram[:5])), 0, 0, 0, 0), compress(t, "xz", []byte(hiProgram[5:]))...), one},
		"two frames, zst":     {[]string{"zst"}, append(compress(t, "zst", []byte(hiProgram[:5])), compress(t, "zst", []byte(hiProgram[5:]))...), one},
		"one program":         {[]string{"file"}, []byte(hiProgram), one},
		"an archive as it is": {[]string{"file"}, zipped, map[string]string{"bot": "755 " + string(zipped)}},
	} {
		for _, kind := range c.kinds {
			p := bundle.Package{Kind: kind, File: "bot"}
			if !formats.IsSingle(kind) || len(c.want) > 1 {
				p.Strip = 1
			}
			got, notes, err := unpackAs(t, packages.Caps{}, p, c.archive)
			if diff := cmp.Diff(c.want, got); err != nil || len(notes) > 0 || diff != "" {
				t.Errorf("%s as %s: %v, %q (-want +got):\n%s", name, kind, err, notes, diff)
			}
		}
	}
}

func TestPackageFormatsRefused(t *testing.T) {
	caps := packages.Caps{Bytes: 1 << 20, Entries: 200}
	plain := rawTar(t, entry{name: "p/x", text: "x"})
	window := []byte("\x28\xb5\x2f\xfd\x00\xa0\x09\x00\x00x") // zstd: a window of 1 GiB
	for name, c := range map[string]struct {
		kind    string
		archive []byte
		want    string
	}{
		"deb":             {"tar.gz", []byte("!<arch>\ndebian-binary   1"), "it is no tar.gz: its first bytes are those of a deb"},
		"7z":              {"tar.xz", []byte("7z\xbc\xaf\x27\x1c0000"), "those of a 7z"},
		"lz4":             {"zst", []byte("\x04\x22\x4d\x18000000"), "those of a lz4"},
		"a web page":      {"tar.gz", []byte("<!DOCTYPE html><html>sign in</html>"), "those of a web page"},
		"a program":       {"tar.gz", []byte(hiProgram), "those of no archive"},
		"a program as gz": {"gz", []byte(hiProgram), "those of no archive"},
		"nothing":         {"tar.gz", nil, "those of no archive"},
		"gz of no tar":    {"tar.gz", compress(t, "gz", []byte(hiProgram)), "is no archive and no tar: write kind: gz for one compressed program"},
		"gz of a zip":     {"tar.gz", compress(t, "gz", archive(t, "zip", entry{name: "p/x", text: "x"})), "is a zip and no tar"},
		"cut, gz":         {"tar.gz", compress(t, "gz", plain)[:40], "unexpected EOF"},
		"cut, xz":         {"tar.xz", fixture(t, tarXz)[:100], "the xz file is damaged"},
		"cut, bz2":        {"tar.bz2", fixture(t, tarBz2)[:100], "unexpected EOF"},
		"cut, zst":        {"tar.zst", compress(t, "zst", plain)[:40], "unexpected EOF"},
		"window of xz":    {"xz", fixture(t, xz512MiB), "needs a window of 512 MiB to unpack, and 128 are allowed"},
		"second window":   {"xz", append(compress(t, "xz", []byte("x")), fixture(t, xz512MiB)...), "needs a window of 512 MiB"},
		"window of zst":   {"zst", window, "window size"},
		"bomb, gz":        {"gz", compress(t, "gz", make([]byte, 2<<20)), "more than 1048576 bytes unpacked"},
		"bomb, xz":        {"xz", compress(t, "xz", make([]byte, 2<<20)), "more than 1048576 bytes unpacked"},
		"bomb, zst":       {"zst", compress(t, "zst", make([]byte, 2<<20)), "more than 1048576 bytes unpacked"},
		"nothing left":    {"tar", rawTar(t, entry{name: "README", text: "x"}), "nothing is left of it with strip: 1"},
		"an empty zip":    {"zip", archive(t, "zip"), "nothing is in it"},
	} {
		_, _, err := unpackAs(t, caps, bundle.Package{Kind: c.kind, File: "bot", Strip: 1}, c.archive)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

// The holes of a sparse file come out as zeros, whichever tar wrote it.
func TestSparseTar(t *testing.T) {
	want := make([]byte, 20<<20)
	want[10<<20] = 'x'
	for name, s := range map[string]string{"GNU": sparseGNU, "PAX": sparsePAX} {
		got, _, err := unpackAs(t, packages.Caps{}, bundle.Package{Kind: "tar.gz"}, fixture(t, s))
		if err != nil || got["sp"] != "644 "+string(want) {
			t.Errorf("%s: %v, a file of %d bytes", name, err, len(got["sp"]))
		}

		if _, _, err := unpackAs(t, packages.Caps{Bytes: 1 << 20}, bundle.Package{Kind: "tar.gz"}, fixture(t, s)); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes unpacked") {
			t.Errorf("%s above the cap: %v", name, err)
		}
	}
}

// A zipped is one entry as a system writes it: creator is that of CreatorVersion.
type zipped struct {
	name, text, extra string
	creator           uint16
	mode              fs.FileMode // 0: none is written
	plainName         bool        // not marked as UTF-8
	method            uint16
	flags             uint16
}

func zipOf(t testing.TB, es ...zipped) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range es {
		h := &zip.FileHeader{Name: e.name, Method: e.method, NonUTF8: e.plainName, Extra: []byte(e.extra), Flags: e.flags}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		h.CreatorVersion = e.creator<<8 | 20
		h.CompressedSize64, h.UncompressedSize64 = uint64(len(e.text)), uint64(len(e.text))
		f, err := w.CreateRaw(h)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const (
	byDOS  = 0
	byUnix = 3
	byNTFS = 10
)

// A zip of another system unpacks as that system would, and what is a program can be started.
func TestZipsOfOtherSystems(t *testing.T) {
	elf := "\x7fELF\x02"
	for name, c := range map[string]struct {
		es    []zipped
		want  map[string]string
		notes string
	}{
		"Windows": {[]zipped{{name: `bin\`, creator: byDOS}, {name: `bin\app`, text: elf, creator: byDOS}, {name: `conf\a.txt`, text: "a", creator: byNTFS}},
			map[string]string{"bin": "dir", "bin/app": "755 " + elf, "conf": "dir", "conf/a.txt": "644 a"}, "bin/app made executable"},
		"no modes at all": {[]zipped{{name: "run", text: hiProgram, creator: byUnix}, {name: "data", text: "x", creator: byUnix}},
			map[string]string{"run": "755 " + hiProgram, "data": "644 x"}, "package bot is a zip without modes: run made executable"},
		"modes, and none of them executable": {[]zipped{{name: "run", text: elf, creator: byUnix, mode: 0o644}, {name: "data", text: "x", creator: byUnix, mode: 0o600}},
			map[string]string{"run": "755 " + elf, "data": "644 x"}, "run made executable"},
		"modes": {[]zipped{{name: "run", text: elf, creator: byUnix, mode: 0o755}, {name: "lib.sh", text: hiProgram, creator: byUnix, mode: 0o644}},
			map[string]string{"run": "755 " + elf, "lib.sh": "644 " + hiProgram}, ""},
		"no program":           {[]zipped{{name: "a", text: "#", creator: byDOS}, {name: "b", creator: byDOS}}, map[string]string{"a": "644 #", "b": "644 "}, ""},
		"a backslash of Unix":  {[]zipped{{name: `a\b`, text: "x", creator: byUnix, mode: 0o644}}, map[string]string{`a\b`: "644 x"}, ""},
		"names of DOS":         {[]zipped{{name: "caf\x82", text: "x", creator: byDOS, plainName: true}}, map[string]string{"café": "644 x"}, ""},
		"UTF-8 without a mark": {[]zipped{{name: "café", text: "x", creator: byUnix, plainName: true, mode: 0o644}}, map[string]string{"café": "644 x"}, ""},
		"UTF-8 beside the name": {[]zipped{{name: "caf?\x82", extra: "\x75\x70\x0a\x00\x01\x00\x00\x00\x00caf\xc3\xa9", text: "x", creator: byDOS, plainName: true}},
			map[string]string{"café": "644 x"}, ""},
	} {
		got, notes, err := unpackAs(t, packages.Caps{}, bundle.Package{Kind: "zip"}, zipOf(t, c.es...))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if said := strings.Join(notes, " "); !strings.Contains(said, c.notes) || c.notes == "" && said != "" {
			t.Errorf("%s: said %q, want %q in it", name, said, c.notes)
		}
	}

	for name, c := range map[string]struct {
		e    zipped
		want string
	}{
		"a drive":      {zipped{name: `C:\x`, creator: byDOS}, "names a drive"},
		"a share":      {zipped{name: `\\host\x`, creator: byDOS}, "leaves the package"},
		"up":           {zipped{name: `a\..\..\x`, creator: byDOS}, "leaves the package"},
		"deflate64":    {zipped{name: "x", text: "x", creator: byDOS, method: 9}, "entry x: it is compressed by method 9"},
		"a password":   {zipped{name: "x", text: "x", creator: byDOS, flags: 1}, "entry x: it is encrypted"},
		"a NUL inside": {zipped{name: "x\x00y", creator: byDOS}, "leaves the package"},
	} {
		if _, _, err := unpackAs(t, packages.Caps{}, bundle.Package{Kind: "zip"}, zipOf(t, c.e)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

// A single file is reached by the service's name and by its own, also where it was unpacked before it
// had one.
func TestSingleFileKeepsItsName(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	file := filepath.Join(dir, "archive")
	if err := os.WriteFile(file, []byte(hiProgram), 0o600); err != nil {
		t.Fatal(err)
	}

	p := bundle.Package{Name: "bot", Digest: "d", Kind: "file", File: "bot"}
	for _, as := range []string{"", "bot", "bot-linux-amd64", "bot-linux-amd64"} {
		p.As = as
		if _, err := unpackInto(store, packages.Caps{}, p, file); err != nil {
			t.Fatalf("as %q: %v", as, err)
		}
	}
	want := map[string]string{"bot": "755 " + hiProgram, "bot-linux-amd64": "-> bot"}
	if diff := cmp.Diff(want, unpacked(t, filepath.Join(store, packages.Name(p)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzXzWindow walks over what a stranger may serve, and lets pass whatever the library writes.
func FuzzXzWindow(f *testing.F) {
	for _, s := range []string{tarXz, progXzSHA256, xz512MiB} {
		f.Add(fixture(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		packages.CheckXz(bufio.NewReader(bytes.NewReader(data)))
		if err := packages.CheckXz(bufio.NewReader(bytes.NewReader(compress(t, "xz", data)))); err != nil {
			t.Errorf("a whole file: %v", err)
		}
	})
}

// FuzzUnpackFormats unpacks whatever a stranger may serve, under every kind that the repo may call it.
// What comes of it is a plain package within the caps, or an error and nothing.
func FuzzUnpackFormats(f *testing.F) {
	plain := rawTar(f, entry{name: "p/bin/bot", text: hiProgram, mode: 0o755}, entry{name: "p/x", link: "bin/bot", kind: '2'})
	for i, data := range [][]byte{plain, compress(f, "gz", plain), compress(f, "xz", plain), compress(f, "zst", plain), fixture(f, tarBz2), fixture(f, sparseGNU), fixture(f, xz512MiB),
		zipOf(f, zipped{name: `bin\\app`, text: hiProgram}, zipped{name: "caf\x82", text: "x", plainName: true})} {
		f.Add(byte(i), data)
	}
	caps := packages.Caps{Bytes: 1 << 20, Entries: 200}
	dir := f.TempDir()
	file := filepath.Join(dir, "archive")
	store := filepath.Join(dir, "store")
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		p := bundle.Package{Name: "bot", Digest: "d", Kind: formats.Kinds[int(kind)%len(formats.Kinds)], File: "bot", As: "own"}
		if err := errors.Join(os.RemoveAll(store), os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := unpackInto(store, caps, p, file)
		in, _ := os.ReadDir(store)
		switch {
		case err != nil && len(in) > 0:
			t.Errorf("%v, and %s is left", err, in[0].Name())
		case err == nil:
			plainTree(t, filepath.Join(store, packages.Name(p)))
		}
	})
}
