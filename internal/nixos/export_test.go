package nixos

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"bellhop/internal/nixos/nixtree"
)

// FuzzedWorker reads bytes as each side of a worker's connection does.
func FuzzedWorker(t *testing.T, said []byte) {
	if a, err := readWorkerAsk(bytes.NewReader(said)); err == nil {
		for _, d := range a.Derivations {
			if strings.HasPrefix(d, "-") || !strings.HasPrefix(d, StoreDir+"/") {
				t.Errorf("a derivation %q is taken", d)
			}
		}
		if a.Expr != "" && len(a.Derivations) > 0 {
			t.Error("an ask is both")
		}
	}

	if hello, err := readWorkerHello(bytes.NewReader(said)); err == nil {
		if w := (&nixtree.Written{Dir: hello.Dir}); strings.ContainsAny(w.URL()[len("path:"+hello.Dir):], " \"$") || !strings.HasPrefix(hello.Dir, "/") {
			t.Errorf("a folder %q is taken", hello.Dir)
		}
	}

	var out bytes.Buffer
	lines := 0
	_, _ = hearWorker(bytes.NewReader(said), &out, func(r io.Reader) { _ = readLog(r, func(logLine) { lines++ }) })
	if out.Len() > len(said) || lines > len(said) {
		t.Errorf("%d bytes and %d lines came of %d bytes", out.Len(), lines, len(said))
	}
}
