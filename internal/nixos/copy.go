package nixos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"bellhop/internal/plain"
)

// Nix copies a closure by starting "ssh". The ssh that it finds is this program, in a private folder that
// comes first in PATH; it connects to a socket in the same folder, and what comes there is carried over the
// connection that bellhop has already. So Nix has no key, no address and no choice of host or command.

// NextRoot keeps what was copied to a host last from its garbage collector: until the system has a root of its own,
// or the next copy takes its place.
const NextRoot = "/nix/var/nix/gcroots/bellhop/next"

// ServeCommand is what runs on the host, as root: the far end of a copy of path. The root is there before the bytes
// are: a root of what is not there yet is passed over, and nothing is collected while nix-store runs.
func ServeCommand(path string) string {
	root := filepath.Dir(NextRoot)
	return farPath + "mkdir -p " + root + " && ln -sfn " + path + " " + NextRoot + " && exec nix-store --serve --write"
}

// Serve runs a ServeCommand on the host, with what it reads and writes, and returns its exit code.
type Serve func(ctx context.Context, in io.Reader, out, errs io.Writer) (code int, err error)

// A Copied tells what a copy moved.
type Copied struct {
	Sent, Received int64 // bytes
	Sessions       int
}

// Copy copies what a host lacks of the closure of path, which is a system or a derivation. The host is asked to
// fetch what it can from its own caches.
func (n *Nix) Copy(ctx context.Context, path string, serve Serve) (Copied, error) {
	if !IsStorePath(path) {
		return Copied{}, fmt.Errorf("copy %q: it is no store path", path)
	}
	if !asks.Load() {
		return Copied{}, errors.New("this program can't be the ssh of Nix")
	}
	far, err := listen(ctx, serve)
	if err != nil {
		return Copied{}, fmt.Errorf("copy %s: %w", path, err)
	}
	defer far.close()

	var errs tail
	env := []string{"PATH=" + far.dir + string(os.PathListSeparator) + searchPath(), socketVariable + "=" + far.socket(), "NIX_SSHOPTS="}
	failedRun := n.run(ctx, "nix-copy-closure", []string{"--use-substitutes", "--to", "root@bellhop", path}, env, io.Discard,
		func(l logLine) { errs.add(l.text()) })
	far.close()

	copied := Copied{Sent: far.sent.Load(), Received: far.received.Load(), Sessions: int(far.sessions.Load())}
	if far.err != nil {
		return copied, far.err // what happened on the way to the host says more than Nix can
	}
	if failedRun != nil {
		text := firstNonEmpty(headline(errs.lines), failedRun.Error())
		return copied, plain.Quoted([]byte(text), "copy %s", path) // it may have come from the host
	}

	return copied, nil
}

// searchPath is PATH with the places where Nix may be beside it.
func searchPath() string {
	all := os.Getenv("PATH")
	for _, dir := range profiles {
		all += string(os.PathListSeparator) + dir
	}
	return all
}

// A farEnd carries what the ssh of one copy says to a host.
type farEnd struct {
	dir    string // private; has the program ssh and the socket
	l      net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	serve  Serve
	work   sync.WaitGroup
	once   sync.Once

	sent, received, sessions atomic.Int64
	mu                       sync.Mutex
	err                      error // of the first session that failed
}

// listen makes the private folder of a copy, and serves the one session that it needs.
func listen(ctx context.Context, serve Serve) (*farEnd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bellhop-nix-") // short: the path of a socket has 107 bytes at most
	if err != nil {
		return nil, err
	}

	f := &farEnd{dir: dir, serve: serve}
	err = os.Symlink(self, filepath.Join(dir, "ssh"))
	if err == nil {
		f.l, err = net.Listen("unix", f.socket())
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}

	f.ctx, f.cancel = context.WithCancel(ctx)
	f.work.Go(f.accept)
	return f, nil
}

func (f *farEnd) socket() string { return filepath.Join(f.dir, "s") }

func (f *farEnd) close() {
	f.once.Do(func() {
		f.l.Close()
		f.cancel()
		f.work.Wait()
		os.RemoveAll(f.dir)
	})
}

// accept serves one connection after the other: a copy needs one, and a second would be another session.
func (f *farEnd) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.carry(c.(*net.UnixConn))
	}
}

func (f *farEnd) carry(c *net.UnixConn) {
	defer c.Close()
	stop := context.AfterFunc(f.ctx, func() { c.Close() })
	defer stop()
	f.sessions.Add(1)

	said := &lastBytes{}
	code, err := f.serve(f.ctx, countReader{c, &f.sent}, countWriter{c, &f.received}, said)
	if err == nil && code != 0 {
		err = plain.Quoted(said.b, "nix-store --serve on the host ended with code %d", code)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && f.ctx.Err() == nil {
		f.err = err
	}
}

type countReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type countWriter struct {
	w io.Writer
	n *atomic.Int64
}

func (c countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// lastBytes keeps the last of what a host said on stderr.
type lastBytes struct{ b []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if extra := len(l.b) - 1024; extra > 0 {
		l.b = append([]byte(nil), l.b[extra:]...)
	}
	return len(p), nil
}
