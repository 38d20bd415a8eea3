package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// An asset is a file that pages name: the style and the scripts. Its address has a digest, so that a browser may keep it.
type asset struct {
	kind    string
	digest  string
	plain   []byte
	gzipped []byte
}

// readAssets reads those that are part of the program.
func readAssets() map[string]asset {
	all := map[string]asset{}
	entries, err := fs.ReadDir(files, "files/assets")
	if err != nil {
		panic(err) // they are part of the program
	}

	for _, e := range entries {
		b, err := files.ReadFile("files/assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(b)
		all[e.Name()] = asset{kind: kindOf(e.Name()), digest: hex.EncodeToString(sum[:6]), plain: b, gzipped: gzipped(b)}
	}
	return all
}

func kindOf(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".js":
		return "text/javascript; charset=utf-8"
	}
	return "text/plain; charset=utf-8" // a licence
}

// assetPath is the address of an asset.
func (p *Page) assetPath(name string) string {
	return "/assets/" + name + "?v=" + p.assets[name].digest
}

func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}

	if r.URL.Query().Get("v") == a.digest {
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	send(w, r, a.kind, a.plain, a.gzipped)
}

// send writes a body, compressed for those who can read that. Compression lets a length tell of secrets that are beside
// what a stranger chose; no page has a secret in it.
func send(w http.ResponseWriter, r *http.Request, kind string, body, small []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Add("Vary", "Accept-Encoding")
	if takesGzip(r) {
		if small == nil {
			small = gzipped(body)
		}
		h.Set("Content-Encoding", "gzip")
		body = small
	}
	_, _ = w.Write(body)
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		isRefused := strings.TrimSpace(weight) == "q=0"
		if strings.TrimSpace(name) == "gzip" && !isRefused {
			return true
		}
	}
	return false
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.DefaultCompression) // a level that exists
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}
