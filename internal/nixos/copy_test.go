package nixos_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// cutReader fails once so many bytes were read.
type cutReader struct {
	r    io.Reader
	left int
}

var errCut = errors.New("the connection is gone")

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// A copy that is cut off says why, and the next one sends what is missing alone: paths that came whole stay.
func TestCopyThatIsCutOff(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	const each = 2 << 20
	tree := flake(`a = { config.system.build.toplevel = let part = name: drv name "PATH=/bin:/usr/bin; yes ${name} | head -c 2097152 > $out";
	  in drv "nixos-system-a" "echo ${part "one"} ${part "two"} > $out"; };`)
	a := built(t, n, tree, "a")["a"]

	far := t.TempDir()
	cut := func(ctx context.Context, in io.Reader, out, errs io.Writer) (int, error) {
		_, err := farStore(far)(ctx, &cutReader{in, each + each/2}, out, errs)
		return 0, errors.Join(err, errCut)
	}
	first, err := n.Copy(t.Context(), a.Out, cut)
	if !errors.Is(err, errCut) {
		t.Errorf("a copy that is cut off: %v", err)
	}
	if _, err := os.Stat(filepath.Join(far, a.Out)); err == nil {
		t.Error("the system is there, although a part of it is not")
	}

	second, err := n.Copy(t.Context(), a.Out, farStore(far))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(far, a.Out)); err != nil {
		t.Error(err)
	}
	if second.Sent < each || second.Sent > each+each/2 {
		t.Errorf("the first copy sent %d bytes of %d, and the second %d", first.Sent, 2*each, second.Sent)
	}
}
