package host_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"bellhop/internal/bundle"
	"bellhop/internal/lab/port"
)

// A registry is Debian's docker-registry behind a door of the test's own, which can be shut in all ways
// that registries fail. Engines of the rig pull from it; the images are made of one static program.
type registry struct {
	t    *testing.T
	addr string   // as a host of the rig reaches it
	url  string   // of the registry itself
	user []string // USER:PASSWORD of those that it lets in, the first is the test's own; none: everybody

	mu     sync.Mutex
	status int           // of all answers; 0: as the registry says
	hang   chan struct{} // answers wait until it is closed
	held   chan struct{} // closed when the first answer waits; nil afterwards
	pulls  int           // manifests that were asked for
}

func newRegistry(t *testing.T, ip string, users ...string) *registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not here")
	}

	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: %s } }\nhttp: { addr: %q }\n", t.TempDir(), addr)
	if len(users) > 0 {
		text += fmt.Sprintf("auth: { htpasswd: { realm: rig, path: %s } }\n", htpasswd(t, users))
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := exec.Command(program, "serve", config)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serve.Process.Kill(); serve.Wait() })

	r := &registry{t: t, addr: net.JoinHostPort(ip, "5000"), url: "http://" + addr, user: users}
	to, _ := url.Parse(r.url)
	door, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.answer(w, req, proxy) })}
	go server.Serve(door)
	t.Cleanup(func() { server.Close() })

	for range 1200 {
		if resp, err := http.Get(r.url + "/v2/"); err == nil {
			resp.Body.Close()
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("docker-registry does not start")
	return nil
}

// htpasswd is a file with the passwords of users, as docker-registry reads it.
func htpasswd(t *testing.T, users []string) string {
	t.Helper()
	var lines string
	for _, u := range users {
		name, password, _ := strings.Cut(u, ":")
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		lines += name + ":" + string(hash) + "\n"
	}
	p := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(p, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// do sends a request as the test's own user.
func (r *registry) do(req *http.Request) (*http.Response, error) {
	if len(r.user) > 0 {
		name, password, _ := strings.Cut(r.user[0], ":")
		req.SetBasicAuth(name, password)
	}
	return http.DefaultClient.Do(req)
}

func (r *registry) answer(w http.ResponseWriter, req *http.Request, next http.Handler) {
	r.mu.Lock()
	status, hang := r.status, r.hang
	if hang != nil && r.held != nil {
		close(r.held)
		r.held = nil
	}
	if strings.Contains(req.URL.Path, "/manifests/") {
		r.pulls++
	}
	r.mu.Unlock()

	if hang != nil {
		select {
		case <-hang:
		case <-req.Context().Done():
			return
		}
	}
	if status == 0 {
		req.Host = strings.TrimPrefix(r.url, "http://")
		next.ServeHTTP(w, req)
		return
	}
	codes := map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 429: "TOOMANYREQUESTS", 500: "UNKNOWN"}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"says the door"}]}`, codes[status])
}

// fails has all pulls answered with a status; 0 ends that.
func (r *registry) fails(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// hangs has all answers wait until release is called. held is closed when the first one does.
func (r *registry) hangs() (held <-chan struct{}, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hang := make(chan struct{})
	r.hang, r.held = hang, make(chan struct{})
	return r.held, sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(hang)
		r.hang, r.held = nil, nil
	})
}

// asked is how often an image was asked for.
func (r *registry) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulls
}

// push makes the image NAME:TAG of the program of the stories, which says version.
func (r *registry) push(name, tag, version string) (ref string) {
	r.t.Helper()
	program := filepath.Join(r.t.TempDir(), "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version="+version, "-o", program, "bellhop/e2e/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("build the app: %v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		r.t.Fatal(err)
	}

	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	tw.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg})
	tw.Write(text)
	tw.Close()

	digest := func(p []byte) string { return "sha256:" + bundle.DigestBytes(p) }
	config, _ := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/app"}, "Labels": map[string]string{"version": version}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.Bytes())}}})
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	blob := func(p []byte, kind string) map[string]any {
		r.blob(name, p, digest(p))
		return map[string]any{"mediaType": kind, "size": len(p), "digest": digest(p)}
	}
	manifest, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": kind, "config": blob(config, "application/vnd.docker.container.image.v1+json"),
		"layers": []any{blob(layer.Bytes(), "application/vnd.docker.image.rootfs.diff.tar")}})
	r.put(r.url+"/v2/"+name+"/manifests/"+tag, kind, manifest)
	return r.addr + "/" + name + ":" + tag
}

// digest is the digest that the registry has for a tag.
func (r *registry) digest(name, tag string) string {
	r.t.Helper()
	ask, _ := http.NewRequest("HEAD", r.url+"/v2/"+name+"/manifests/"+tag, nil)
	ask.Header.Set("Accept", "application/vnd.docker.distribution.manifest.v2+json")
	resp, err := r.do(ask)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}

func (r *registry) blob(name string, p []byte, digest string) {
	begin, _ := http.NewRequest("POST", r.url+"/v2/"+name+"/blobs/uploads/", nil)
	resp, err := r.do(begin)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		r.t.Fatal(err)
	}
	q := at.Query()
	q.Set("digest", digest)
	at.RawQuery = q.Encode()
	r.put(at.String(), "application/octet-stream", p)
}

func (r *registry) put(to, kind string, p []byte) {
	req, _ := http.NewRequest("PUT", to, bytes.NewReader(p))
	req.Header.Set("Content-Type", kind)
	resp, err := r.do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		said, _ := io.ReadAll(resp.Body)
		r.t.Fatalf("PUT %s: %s\n%s", to, resp.Status, said)
	}
}
