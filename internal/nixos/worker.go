package nixos

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bellhop/internal/nixos/nixtree"
)

// A worker evaluates and builds as another user, who cannot see the state directory: a configuration is code. systemd
// starts one process of it for each connection to a socket that only bellhop may use, with the connection as its
// standard input, so a worker knows nothing of any other ask.
//
//	worker → frame h   its version, and the folder in which it will write the tree
//	bellhop → a length of 4 bytes, a workerAsk as JSON, and then a tree as an archive of Nix, of the size that the ask names
//	worker → frames o and e   what the program prints, and its log
//	worker → frame x   how it ended
//
// A frame is a letter, a length of 4 bytes, and that many bytes. Who asked and hangs up ends the program.

// WorkerSocket is where systemd has the socket of the worker, as contrib/bellhop-nix.socket says.
const WorkerSocket = "/run/bellhop-nix/socket"

const (
	workerVersion = 1
	maxFrame      = 64 << 10
	maxWorkerAsk  = 8 << 20 // an expression with the names of all hosts, or the derivations of all
	maxWorkerTime = 24 * time.Hour
)

// Frames of a worker.
const (
	frameHello  = 'h'
	frameOut    = 'o'
	frameLog    = 'e'
	frameResult = 'x'
)

type workerHello struct {
	Version int    `json:"v"`
	Dir     string `json:"dir"`
	CutsOff bool   `json:"cuts_off,omitempty"` // it knows workerAsk.CutOff; one of a former release does not
}

// A workerAsk is either an evaluation of an expression or a build of derivations.
type workerAsk struct {
	Expr                 string   `json:"expr,omitempty"`
	ImportFromDerivation bool     `json:"ifd,omitempty"`
	CutOff               bool     `json:"cut_off,omitempty"` // see Nix.CutOff
	Tree                 int64    `json:"tree,omitempty"`    // bytes of the archive that follows
	Derivations          []string `json:"drvs,omitempty"`
	Seconds              int64    `json:"seconds"`
}

// check says what is wrong with an ask.
func (a *workerAsk) check() error {
	switch {
	case (a.Expr == "") == (len(a.Derivations) == 0):
		return errors.New("want either an expression or derivations")
	case a.Tree < 0 || a.Tree > 2*nixtree.MaxBytes:
		return fmt.Errorf("a tree of %d bytes", a.Tree)
	case a.Seconds <= 0 || a.Seconds > int64(maxWorkerTime/time.Second):
		return fmt.Errorf("a limit of %d seconds", a.Seconds)
	}

	if i := slices.IndexFunc(a.Derivations, func(d string) bool { return !IsStorePath(d) || !strings.HasSuffix(d, ".drv") }); i >= 0 {
		return fmt.Errorf("%q is no derivation", a.Derivations[i])
	}
	return nil
}

type workerResult struct {
	Text   string `json:"text,omitempty"` // what went wrong; "": nothing did
	Code   int    `json:"code,omitempty"`
	Killed bool   `json:"killed,omitempty"`
	Late   bool   `json:"late,omitempty"`
	Heap   int64  `json:"heap,omitempty"` // bytes, of an evaluation
}

func (r *workerResult) failed() *failed {
	if r.Text == "" {
		return nil
	}
	return &failed{what: r.Text, code: r.Code, killed: r.Killed, late: r.Late}
}

func readWorkerAsk(r io.Reader) (*workerAsk, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxWorkerAsk {
		return nil, fmt.Errorf("an ask of %d bytes", size)
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, err
	}

	a := &workerAsk{}
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("read an ask: %w", err)
	}

	return a, a.check()
}

// frames writes frames of one kind. Several of them share a connection: bytes of a pipe are written by one goroutine,
// those of the other by another, so each frame goes out in one write.
type frames struct {
	w    net.Conn
	kind byte
}

func (f frames) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		some := rest[:min(len(rest), maxFrame)]
		frame := binary.BigEndian.AppendUint32([]byte{f.kind}, uint32(len(some)))
		if _, err := f.w.Write(append(frame, some...)); err != nil {
			return 0, err
		}
		rest = rest[len(some):]
	}
	return len(p), nil
}

func (f frames) json(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = f.Write(text)
	}
	return err
}

// WorkerVerb is the argument with which contrib/bellhop-nix@.service starts a Worker.
const WorkerVerb = "nix-worker"

// Worker answers the ask on stdin, which is a connection, and returns the exit code.
func Worker(stdin *os.File, stderr io.Writer) int {
	dir := os.Getenv("CACHE_DIRECTORY")
	c, err := net.FileConn(stdin)
	switch {
	case err != nil:
		err = fmt.Errorf("standard input is no connection: contrib/bellhop-nix@.service starts this (%w)", err)
	case dir == "":
		err = errors.New("CACHE_DIRECTORY is not set: contrib/bellhop-nix@.service sets it")
	default:
		if os.Getenv("HOME") == "" || os.Getuid() != 0 {
			os.Setenv("HOME", dir) // Nix wants one that is its user's
		}
		err = ServeWorker(context.Background(), c, dir)
		c.Close()
	}

	if err != nil {
		fmt.Fprintln(stderr, "bellhop nix-worker:", err)
		return 1
	}

	return 0
}

// ServeWorker answers one ask on c, as the user of this process, with its files below dir.
func ServeWorker(ctx context.Context, c net.Conn, dir string) error {
	top, err := os.MkdirTemp("", "bellhop-worker-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	tree := filepath.Join(top, "tree")
	if err := (frames{c, frameHello}).json(workerHello{workerVersion, tree, true}); err != nil {
		return err
	}

	ask, err := readWorkerAsk(c)
	if err != nil {
		return err
	}

	n := &Nix{Dir: dir, ImportFromDerivation: ask.ImportFromDerivation && !ask.CutOff, CutOff: ask.CutOff}
	if ask.Tree > 0 {
		if err := n.restore(ctx, io.LimitReader(c, ask.Tree), tree); err != nil {
			return frames{c, frameResult}.json(workerResult{Text: "write the tree: " + err.Error(), Code: -1})
		}
	}

	ctx, hungUp := context.WithCancel(ctx)
	defer hungUp()
	go func() { // nothing more is said: what comes is the end
		defer hungUp()
		_, _ = c.Read(make([]byte, 1))
	}()
	result := n.answer(ctx, ask, c)
	return frames{c, frameResult}.json(result)
}

// answer does what was asked for.
func (n *Nix) answer(ctx context.Context, ask *workerAsk, c net.Conn) workerResult {
	limit := time.Duration(ask.Seconds) * time.Second
	log := func(r io.Reader) {
		_, _ = io.Copy(frames{c, frameLog}, r)
		_, _ = io.Copy(io.Discard, r) // a program whose log nobody takes would stop
	}

	var stats statistics
	var err *failed
	if ask.Expr != "" {
		stats, err = n.evaluateExpr(ctx, ask.Expr, limit, frames{c, frameOut}, log)
	} else {
		err = n.realiseLocally(ctx, ask.Derivations, limit, log)
	}

	r := workerResult{Heap: stats.GC.HeapSize}
	if err != nil {
		r.Text, r.Code, r.Killed, r.Late = err.what, err.code, err.killed, err.late
	}

	return r
}

// restore unpacks an archive of Nix.
func (n *Nix) restore(ctx context.Context, archive io.Reader, to string) error {
	cmd, err := n.command(ctx, "nix-store", []string{"--restore", to}, nil)
	if err != nil {
		return err
	}

	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, headline(strings.Split(string(out), "\n")))
	}

	_, err = io.Copy(io.Discard, archive) // to the end of what was announced
	return err
}
