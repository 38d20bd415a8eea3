package packages

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"bellhop/internal/archive"
)

// Zips are made on every system, and say by which one: names of Windows part folders by a backslash and
// may be in the code page of DOS, and nobody but Unix writes modes. Where there are none, a file that
// Linux would start by its first bytes is made executable, and the run says so.

// Systems that write modes into a zip, as the upper byte of CreatorVersion names them.
const (
	zipUnix  = 3
	zipMacOS = 19
)

func (u *unpacker) zip(z *zip.Reader) error {
	guess := !slices.ContainsFunc(z.File, func(e *zip.File) bool { return e.Mode().IsRegular() && e.Mode()&0o111 != 0 && hasModes(e) })
	for _, e := range z.File {
		if err := u.zipEntry(e, guess || !hasModes(e)); err != nil {
			return err
		}
	}
	return nil
}

// hasModes tells whether the mode of an entry was written and not made up.
func hasModes(e *zip.File) bool {
	system := e.CreatorVersion >> 8
	return (system == zipUnix || system == zipMacOS) && e.ExternalAttrs>>16 != 0
}

// zipEntry writes one entry. guess lets its first bytes tell whether it is a program.
func (u *unpacker) zipEntry(e *zip.File, guess bool) error {
	full, err := zipName(e)
	if err != nil {
		return err
	}

	name, err := u.name(full)
	if err != nil || name == "" {
		return err
	}

	mode := e.Mode()
	if mode.IsDir() || strings.HasSuffix(full, "/") {
		u.written++
		return u.mkdir(name)
	}

	r, err := openZip(e)
	if err != nil {
		return fmt.Errorf("entry %s: %w", full, err)
	}

	switch {
	case mode&fs.ModeSymlink != 0:
		var target []byte
		if target, err = io.ReadAll(io.LimitReader(r, 4096)); err == nil {
			err = u.link(name, string(target))
		}
	case !mode.IsRegular():
		err = fmt.Errorf("%s is a device, a pipe or worse", full)
	case guess:
		err = u.guessedFile(name, r)
	default:
		err = u.file(name, mode, r)
	}

	return errors.Join(err, r.Close())
}

// openZip opens an entry, and says in words why one can't be.
func openZip(e *zip.File) (io.ReadCloser, error) {
	const encrypted = 0x1
	if e.Flags&encrypted != 0 {
		return nil, errors.New("it is encrypted")
	}

	r, err := e.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return nil, fmt.Errorf("it is compressed by method %d, and zips are unpacked with store and deflate alone: pack it anew", e.Method)
	}

	return r, err
}

// guessedFile writes a file whose mode nobody wrote down.
func (u *unpacker) guessedFile(name string, r io.Reader) error {
	b := bufio.NewReader(r)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}

	mode := fs.FileMode(0o644)
	if archive.IsProgram(head) {
		mode = 0o755
		u.guessed = append(u.guessed, name)
	}

	return u.file(name, mode, b)
}

// zipName is the name of an entry with slashes between folders, in UTF-8.
func zipName(e *zip.File) (string, error) {
	name := e.Name
	if e.NonUTF8 {
		name = decodeZipName(e)
	}

	if system := e.CreatorVersion >> 8; system == zipUnix || system == zipMacOS {
		return name, nil // a backslash is a letter there
	}

	name = strings.ReplaceAll(name, `\`, "/")
	if first, _, _ := strings.Cut(name, "/"); len(first) > 1 && first[1] == ':' {
		return "", fmt.Errorf("entry %q leaves the package: it names a drive", e.Name)
	}

	return name, nil
}

// decodeZipName is a name that is not marked as UTF-8: what Info-ZIP notes beside it, the name itself
// where it reads as UTF-8, else what DOS reads.
func decodeZipName(e *zip.File) string {
	if name, ok := unicodePath(e); ok {
		return name
	}
	if utf8.ValidString(e.Name) {
		return e.Name
	}

	var b strings.Builder
	for _, c := range []byte(e.Name) {
		if c < 0x80 {
			b.WriteByte(c)
			continue
		}
		b.WriteRune(codePage437[c-0x80])
	}

	return b.String()
}

// unicodePath is the extra field 0x7075 of Info-ZIP: version 1, a CRC-32 of the plain name, the name in
// UTF-8.
func unicodePath(e *zip.File) (string, bool) {
	for p := e.Extra; len(p) >= 4; {
		id, size := binary.LittleEndian.Uint16(p), int(binary.LittleEndian.Uint16(p[2:]))
		if size > len(p)-4 {
			return "", false
		}

		field := p[4 : 4+size]
		if ours := id == 0x7075 && size > 5; ours && field[0] == 1 {
			if name := field[5:]; utf8.Valid(name) && !bytes.ContainsRune(name, 0) {
				return string(name), true
			}
		}

		p = p[4+size:]
	}
	return "", false
}

// codePage437 is what DOS has from 0x80 on.
var codePage437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")
