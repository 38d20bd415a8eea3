//go:build e2e

package e2e

// The config repo of a world: its working copy, its commits, and the deliveries that tell of them.

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// write puts files into the working copy; a nil content removes.
func (w *world) write(files map[string]string) {
	w.t.Helper()
	for name, content := range files {
		p := filepath.Join(w.work, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.work, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// edit replaces old by new, once, in a file of the working copy.
func (w *world) edit(name, old, new string) {
	w.t.Helper()
	s := w.read(name)
	if strings.Count(s, old) != 1 {
		w.t.Fatalf("%q stands %d times in %s", old, strings.Count(s, old), name)
	}
	w.write(map[string]string{name: strings.Replace(s, old, new, 1)})
}

// unhurried gives every service that does not say so a short settle time: most stories are of other
// things, and need not wait for five seconds.
func (w *world) unhurried() {
	w.t.Helper()
	units, err := filepath.Glob(filepath.Join(w.work, "services/*/*.service"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, u := range units {
		name := filepath.Join(filepath.Dir(u), "service.yaml")
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
		if strings.Contains(string(text), "settle:") {
			continue
		}
		if err := os.WriteFile(name, append(text, "\nsettle: 500ms\n"...), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// commit commits all and pushes to the bare repo, ringing nobody. It returns the hash.
func (w *world) commit(msg string) string {
	w.t.Helper()
	w.unhurried()
	w.sh(w.work, "git add -A && git -c core.hooksPath=/dev/null commit -q --allow-empty -m '"+msg+"' && git push -q origin main")
	return strings.TrimSpace(w.sh(w.work, "git rev-parse HEAD"))
}

// deliver sends GitHub's push delivery for commit, signed, and returns the status code.
func (w *world) deliver(commit string) int {
	w.t.Helper()
	secret, err := os.ReadFile(filepath.Join(w.state, "webhook-secret"))
	if err != nil {
		w.t.Fatal(err)
	}
	body := pushBody(w.t, commit)
	mac := hmac.New(sha256.New, bytes.TrimSuffix(secret, []byte("\n")))
	mac.Write(body)
	req, _ := http.NewRequest("POST", "http://"+w.listen+"/v1/webhook", bytes.NewReader(body))
	for k, v := range map[string]string{
		"Accept": "*/*", "Content-Type": "application/json", "User-Agent": "GitHub-Hookshot/044aadd",
		"X-GitHub-Event": "push", "X-GitHub-Delivery": fmt.Sprintf("%08x-72c4-11ee-8c99-0242ac120002", deliveries.Add(1)),
		"X-GitHub-Hook-ID": "292430182", "X-GitHub-Hook-Installation-Target-ID": "186853002", "X-GitHub-Hook-Installation-Target-Type": "repository",
		"X-Hub-Signature":     "sha1=0000000000000000000000000000000000000000", // GitHub still sends one; nobody should look
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

var deliveries atomic.Uint32

// pushBody is the body of GitHub's push delivery for commit: testdata/push.json has the shape
// that GitHub documents, written on one line as GitHub does.
func pushBody(t testing.TB, commit string) []byte {
	t.Helper()
	shape, err := os.ReadFile("testdata/push.json")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, bytes.ReplaceAll(shape, []byte("AFTER"), []byte(commit))); err != nil {
		t.Fatal(err)
	}
	return body.Bytes()
}

// push commits, delivers, and waits until the commit stands everywhere.
func (w *world) push(msg string) string {
	w.t.Helper()
	c := w.commit(msg)
	if code := w.deliver(c); code != http.StatusAccepted {
		w.t.Fatalf("webhook answered %d, want 202", code)
	}
	w.waitCurrent(c)
	return c
}
