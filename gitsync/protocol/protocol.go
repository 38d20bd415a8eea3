// Package protocol speaks git's protocol for fetching, versions 0 and 1, over whatever connection it is given.
//
// Its frames are pkt-lines: four hexadecimal digits of length, then the bytes; "0000" is a flush. A server first
// advertises what it has; one request asks for one object, and the answer is a pack. Both are read within bounds.
package protocol

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/gitsync/refs"
	"bellhop/internal/plain"
)

// maxRefs is how many bytes a list of refs may have.
const maxRefs = 64 << 20

// ErrUnreachable says that a remote does not answer, or not as a git server does.
var ErrUnreachable = errors.New("the remote cannot be reached")

// ErrSHA256 says that ids of a repository are longer than the ones known here.
var ErrSHA256 = errors.New("it is a SHA-256 repository, and bellhop reads SHA-1 repositories only: push the config to one made by git init --object-format=sha1")

// ErrRemoteSays marks what the git server itself said.
var ErrRemoteSays = errors.New("the remote says")

// Advertised is what a git server said it has, before anything was asked of it.
type Advertised struct {
	all  refs.Set
	can  map[string]bool // capabilities, without their values
	ends map[plumbing.Hash]bool
}

// Refs are all refs of the server.
func (a *Advertised) Refs() refs.Set { return a.all }

// ReadRefs reads what the server advertises. An empty repository has no refs.
func ReadRefs(r io.Reader) (*Advertised, error) {
	a := &Advertised{all: refs.New(), can: map[string]bool{}, ends: map[plumbing.Hash]bool{}}
	lines := pktline.NewScanner(io.LimitReader(r, maxRefs))
	for first := true; lines.Scan(); {
		line := strings.TrimSuffix(string(lines.Bytes()), "\n")
		switch {
		case strings.HasPrefix(line, "# service="):
			if !lines.Scan() { // the flush behind it
				return nil, notGit(lines.Err())
			}
			continue
		case line == "": // the flush at the end
			return a, nil
		case line == "version 1":
			continue
		}
		if err := a.add(line, first); err != nil {
			return nil, err
		}
		first = false
	}

	return nil, notGit(lines.Err())
}

func notGit(err error) error {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}

	return fmt.Errorf("the remote does not speak git: %w", err)
}

// add reads one line: "id name", or "shallow id". Behind a NUL on the first stand capabilities.
func (a *Advertised) add(line string, first bool) error {
	if text, ok := strings.CutPrefix(line, "ERR "); ok {
		return fmt.Errorf("%w: %s", ErrRemoteSays, plain.Line(text, 300))
	}

	if strings.HasPrefix(line, "version ") {
		return fmt.Errorf("the remote answers in git's protocol %s, which was not asked for", plain.Line(line, 20))
	}

	line, capabilities, has := strings.Cut(line, "\x00")
	if has && first {
		for name := range strings.FieldsSeq(capabilities) {
			if format, ok := strings.CutPrefix(name, "object-format="); ok && format != "sha1" {
				return ErrSHA256
			}
			name, _, _ = strings.Cut(name, "=")
			a.can[name] = true
		}
	}

	id, name, ok := strings.Cut(line, " ")
	if id == "shallow" && len(name) == 40 {
		a.ends[plumbing.NewHash(name)] = true
		return nil
	}

	switch {
	case len(id) == 64 && ok:
		return ErrSHA256
	case !bare.IsID(id) || !ok:
		return fmt.Errorf("the remote does not speak git: it begins with %q", plain.Line(line, 60))
	case name == "capabilities^{}":
		return nil
	}

	a.all.Add(name, plumbing.NewHash(id))
	return nil
}

// Request is what asks for one object, telling which commits are there already. Deltas against
// objects outside of the pack are not asked for.
func (a *Advertised) Request(want plumbing.Hash, haves []plumbing.Hash, flush bool) string {
	var b strings.Builder
	w := pktline.NewEncoder(&b)
	capabilities := "agent=git/bellhop"
	for _, name := range []string{"ofs-delta", "side-band-64k", "no-progress"} {
		if a.can[name] {
			capabilities += " " + name
		}
	}

	_ = w.Encodef("want %s %s\n", want, capabilities) // into memory: it can't fail
	_ = w.Flush()
	for _, h := range haves {
		_ = w.Encodef("have %s\n", h)
	}

	if flush && len(haves) > 0 {
		_ = w.Flush()
	}

	_ = w.EncodeString("done\n")
	return b.String()
}

// ReadPack takes the pack out of the answer, into the clone.
func (a *Advertised) ReadPack(ctx context.Context, answer io.Reader, into *bare.Store, limits objects.Limits) error {
	r := bufio.NewReaderSize(answer, 64<<10)
	if err := skipAcks(r); err != nil {
		return err
	}

	var pack io.Reader = r
	if a.can["side-band-64k"] {
		pack = sideband.NewDemuxer(sideband.Sideband64k, r)
	}

	if err := into.Receive(ctx, pack, limits); err != nil {
		return Clean("fetch", err)
	}

	fresh := bare.Open(into.Dir)
	defer fresh.Close()
	return fresh.KeepShallow(a.ends)
}

// skipAcks reads the lines ahead of the pack: which of the commits that we have the remote
// knows. It asks for nothing that depends on them.
func skipAcks(r *bufio.Reader) error {
	for {
		head, err := r.Peek(8)
		if len(head) < 8 {
			return fmt.Errorf("%w: the remote ends before its pack begins: %w", ErrUnreachable, eofAsCut(err))
		}
		if string(head[:4]) == "PACK" {
			return nil
		}
		word := string(head[4:])
		if word != "ACK " && word != "NAK\n" && word != "ERR " {
			return nil
		}
		var n int
		if _, err := fmt.Sscanf(string(head[:4]), "%04x", &n); err != nil || n < 8 || n > 1000 {
			return errors.New("the remote does not speak git: a frame has no length")
		}
		line := make([]byte, n)
		if _, err := io.ReadFull(r, line); err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if word == "ERR " {
			return fmt.Errorf("%w: %s", ErrRemoteSays, plain.Line(string(line[8:]), 300))
		}
	}
}

func eofAsCut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}

	return err
}

// Clean makes an error that came of the remote's objects one that says nothing of the clone.
func Clean(doing string, err error) error {
	for _, keep := range []error{context.Canceled, context.DeadlineExceeded, objects.ErrLimit} {
		if errors.Is(err, keep) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}

	return fmt.Errorf("%s: %s", doing, plain.Line(err.Error(), 500))
}
