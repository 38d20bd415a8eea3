// Package archive knows the formats that a package of the repo may have, by the names of files and by their
// first bytes.
//
// A kind is what people write behind kind: and what a name or a first byte says. It is a pure package: it
// opens nothing, and deployer and host decide by it alike.
package archive

import (
	"bytes"
	"strings"
)

// Kinds of a package: archives of many files, one file that is compressed, and one file as it is.
const (
	Tar    = "tar"
	TarGz  = "tar.gz"
	TarXz  = "tar.xz"
	TarZst = "tar.zst"
	TarBz2 = "tar.bz2"
	Zip    = "zip"
	Gz     = "gz"
	Xz     = "xz"
	Zst    = "zst"
	Bz2    = "bz2"
	File   = "file"
)

// Kinds are all kinds, as people write them.
var Kinds = []string{TarGz, TarXz, TarZst, TarBz2, Tar, Zip, Gz, Xz, Zst, Bz2, File}

// IsSingle tells whether a package of that kind is one file, which needs a name.
func IsSingle(kind string) bool {
	switch kind {
	case Gz, Xz, Zst, Bz2, File:
		return true
	}
	return false
}

// suffixes are the ends of file names by what they say of the content, the longer before the shorter.
var suffixes = []struct{ end, kind string }{
	{".tar.gz", TarGz}, {".tgz", TarGz}, {".tar.xz", TarXz}, {".txz", TarXz},
	{".tar.zst", TarZst}, {".tar.zstd", TarZst}, {".tzst", TarZst},
	{".tar.bz2", TarBz2}, {".tbz2", TarBz2}, {".tbz", TarBz2},
	{".tar", Tar}, {".zip", Zip}, {".gz", Gz}, {".xz", Xz}, {".zst", Zst}, {".zstd", Zst}, {".bz2", Bz2},
}

// KindOfName is the kind that a file name says, and the name without that end.
func KindOfName(name string) (kind, rest string) {
	lower := strings.ToLower(name)
	for _, s := range suffixes {
		if strings.HasSuffix(lower, s.end) {
			return s.kind, name[:len(name)-len(s.end)]
		}
	}
	return File, name
}

// Ends of names that bellhop unpacks none of.
var (
	distributionEnds = []string{".deb", ".udeb", ".rpm", ".apk", ".snap", ".flatpak", ".msi", ".dmg", ".pkg", ".pkg.tar.zst", ".pkg.tar.xz", ".pkg.tar.gz", ".ipk", ".xbps"}
	otherEnds        = []string{".7z", ".rar", ".lz4", ".lz", ".tlz", ".lzma", ".lzo", ".br", ".z", ".cab", ".iso", ".cpio", ".ace", ".arj", ".zpaq", ".sz", ".lrz"}
)

// UnsupportedName says why a file of that name is no package, and what to do; "" when it may be one.
func UnsupportedName(name string) string {
	lower := strings.ToLower(name)
	for _, end := range distributionEnds {
		if strings.HasSuffix(lower, end) {
			return end + " is a package of a distribution, which its own package manager installs: give the tar or zip of its makers, or one program"
		}
	}

	for _, end := range otherEnds {
		if strings.HasSuffix(lower, end) {
			return "bellhop unpacks no " + end + ": pack it anew as tar.gz, tar.xz, tar.zst, tar.bz2 or zip"
		}
	}

	return ""
}

// zipBased are formats of single files that are zips inside.
var zipBased = []string{".jar", ".war", ".ear", ".whl", ".egg", ".pyz", ".pex", ".xpi", ".epub", ".docx", ".xlsx", ".odt", ".nupkg", ".vsix", ".aar"}

// IsZipBased tells whether a file of that name is a zip that is not meant to be unpacked.
func IsZipBased(name string) bool {
	lower := strings.ToLower(name)
	for _, end := range zipBased {
		if strings.HasSuffix(lower, end) {
			return true
		}
	}
	return false
}

// SniffLen is how many bytes Sniff looks at.
const SniffLen = 262

// magics are the first bytes of what has them, and its name for people.
var magics = []struct{ head, name string }{
	{"\x1f\x8b", Gz}, {"\xfd7zXZ\x00", Xz}, {"\x28\xb5\x2f\xfd", Zst}, {"BZh", Bz2},
	{"PK\x03\x04", Zip}, {"PK\x05\x06", Zip}, {"PK\x07\x08", Zip},
	{"!<arch>\ndebian", "deb"}, {"\xed\xab\xee\xdb", "rpm"}, {"7z\xbc\xaf\x27\x1c", "7z"}, {"Rar!\x1a\x07", "rar"},
	{"\x04\x22\x4d\x18", "lz4"}, {"LZIP", "lz"}, {"MSCF\x00\x00\x00\x00", "cab"}, {"\x1f\x9d", "Z"}, {"\x89LZO\x00", "lzo"}, {"hsqs", "squashfs"}, {"xar!", "xar"},
	{"<!DOCTYPE html", "web page"}, {"<!doctype html", "web page"}, {"<html", "web page"},
}

// Sniff is the kind of an archive or of a compressed file by its first bytes: a kind of package, or a
// word for what bellhop does not unpack. "" is a file that is none, such as a program.
func Sniff(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.head)) {
			return m.name
		}
	}
	if len(head) >= SniffLen && bytes.Equal(head[257:262], []byte("ustar")) {
		return Tar
	}
	return ""
}

// Mistaken says why a file that is to be installed as it is can't be meant so: it begins as an archive,
// and its name does not say one. "" is that it may be meant.
func Mistaken(name string, head []byte) string {
	is := Sniff(head)
	if is == "" || is == Zip && IsZipBased(name) {
		return ""
	}

	const asIs = "kind: file installs it as it is"
	switch is {
	case Tar, Zip:
		return "it is a " + is + ", which its name does not say: write kind: " + is + "; " + asIs
	case Gz, Xz, Zst, Bz2:
		return "it is compressed by " + is + ", which its name does not say: write kind: tar." + is + " for an archive, kind: " + is + " for one program; " + asIs
	}
	if why := UnsupportedName("x." + is); why != "" {
		return why + "; " + asIs
	}
	return "it is a " + is + " and no program; " + asIs
}

// IsProgram tells whether a file with these first bytes is one that Linux starts: ELF, or a script with
// an interpreter.
func IsProgram(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x7fELF")) || bytes.HasPrefix(head, []byte("#!"))
}
