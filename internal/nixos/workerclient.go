package nixos

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bellhop/internal/nixos/nixtree"
	"bellhop/internal/plain"
)

// This side of a worker: what it says comes from a process in which somebody else's code ran.

// maxWorkerOut is how much of what a program prints is taken, bytes.
const maxWorkerOut = 64 << 20

// hasWorker says that a worker evaluates and builds.
func (n *Nix) hasWorker() bool { return n.Worker != "" && HasWorker(n.Worker) }

// HasWorker says whether a socket is there.
func HasWorker(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

func (n *Nix) evaluateApart(ctx context.Context, e evaluation, out io.Writer, log func(io.Reader)) (statistics, *failed) {
	var s statistics
	r, err := n.askWorker(ctx, n.timeout(), out, log, func(dir string) (*workerAsk, string) {
		there := *e.written
		there.Dir = dir
		return &workerAsk{Expr: call(e.function, e.mark, &there, e.asks), ImportFromDerivation: n.ImportFromDerivation, CutOff: n.CutOff}, e.written.Dir
	})

	s.GC.HeapSize = r.Heap
	return s, err
}

func (n *Nix) realiseApart(ctx context.Context, drvs []string, log func(io.Reader)) *failed {
	_, err := n.askWorker(ctx, n.buildTimeout(), nil, log, func(string) (*workerAsk, string) { return &workerAsk{Derivations: drvs}, "" })
	return err
}

// askWorker has the worker do what ask gives for the folder of its tree; tree is the folder that is to be there, or "".
func (n *Nix) askWorker(ctx context.Context, limit time.Duration, out io.Writer, log func(io.Reader), ask func(dir string) (a *workerAsk, tree string)) (workerResult, *failed) {
	ctx, cancel := within(ctx, limit)
	defer cancel()
	if n.Started != nil {
		n.Started([]string{n.Worker})
	}

	r, err := n.talkToWorker(ctx, limit, out, log, ask)
	if ctx.Err() != nil {
		return workerResult{}, &failed{what: fmt.Sprintf("the worker of Nix: %v", context.Cause(ctx)), code: -1, late: true}
	}
	if err != nil {
		return workerResult{}, &failed{what: "the worker of Nix (journalctl -u 'bellhop-nix@*'): " + plain.Text(err.Error(), maxLogText), code: -1}
	}

	r.Text = plain.Text(r.Text, maxLogText)
	return r, r.failed()
}

func (n *Nix) talkToWorker(ctx context.Context, limit time.Duration, out io.Writer, log func(io.Reader), ask func(dir string) (a *workerAsk, tree string)) (workerResult, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", n.Worker)
	if err != nil {
		return workerResult{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()

	hello, err := readWorkerHello(c)
	if err != nil {
		return workerResult{}, err
	}
	a, tree := ask(hello.Dir)
	if a.CutOff && !hello.CutsOff {
		return workerResult{}, errors.New("it is of a release that can't cut an evaluation off from the network")
	}

	a.Seconds = int64((limit + time.Second - 1) / time.Second)
	if err := sendAsk(c, a, tree); err != nil {
		if r, herr := hearWorker(c, out, log); herr == nil && r.Text != "" {
			return r, nil // it hung up, since it can't take the tree, and said why
		}
		return workerResult{}, err
	}

	return hearWorker(c, out, log)
}

func readWorkerHello(r io.Reader) (hello workerHello, err error) {
	kind, text, err := readFrame(r, make([]byte, maxFrame))
	if err != nil {
		return hello, err
	}
	if kind != frameHello {
		return hello, fmt.Errorf("it began with a frame %q", kind)
	}
	if err := json.Unmarshal(text, &hello); err != nil {
		return hello, err
	}
	isPath := filepath.IsAbs(hello.Dir) && filepath.Clean(hello.Dir) == hello.Dir && !strings.ContainsAny(hello.Dir, "?#%\"$\\ \n")
	if hello.Version != workerVersion || !isPath {
		return hello, fmt.Errorf("it speaks version %d, and this bellhop version %d", hello.Version, workerVersion)
	}

	return hello, nil
}

// sendAsk sends an ask, and the folder tree where there is one.
func sendAsk(w io.Writer, a *workerAsk, tree string) error {
	if tree != "" {
		var size countWriter64
		if err := nixtree.WriteNAR(&size, tree); err != nil {
			return err
		}
		a.Tree = int64(size)
	}

	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if len(text) > maxWorkerAsk {
		return fmt.Errorf("an ask of %d bytes is too long", len(text))
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		return err
	}
	if tree == "" {
		return nil
	}

	return nixtree.WriteNAR(w, tree)
}

// countWriter64 counts what is written to it.
type countWriter64 int64

func (c *countWriter64) Write(p []byte) (int, error) {
	*c += countWriter64(len(p))
	return len(p), nil
}

func readFrame(r io.Reader, buf []byte) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > uint32(len(buf)) {
		return 0, nil, fmt.Errorf("a frame of %d bytes", size)
	}

	_, err = io.ReadFull(r, buf[:size])
	return head[0], buf[:size], err
}

// hearWorker reads frames until the result.
func hearWorker(r io.Reader, out io.Writer, log func(io.Reader)) (result workerResult, err error) {
	if out == nil {
		out = io.Discard
	}
	said, saying := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		log(said)
		_, _ = io.Copy(io.Discard, said)
	}()
	defer func() {
		saying.Close()
		<-done
	}()

	buf, printed := make([]byte, maxFrame), 0
	for {
		kind, data, err := readFrame(r, buf)
		if err != nil {
			return result, fmt.Errorf("it ended without a result: %w", err)
		}
		switch kind {
		case frameLog:
			_, _ = saying.Write(data)
		case frameOut:
			if printed += len(data); printed > maxWorkerOut {
				return result, errors.New("it prints too much")
			}
			if _, err := out.Write(data); err != nil {
				return result, err
			}
		case frameResult:
			return result, json.Unmarshal(data, &result)
		default:
			return result, fmt.Errorf("a frame %q", kind)
		}
	}
}
