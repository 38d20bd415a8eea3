package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/lab"
	"bellhop/internal/lab/canary"
	"bellhop/secrets/agefile"
)

// Promise 7, inside one process: canaries go through deploys and every failure of them, with a
// server that logs all it can, hosts that run the real engine, and one that says back what it
// was sent. Then all that was printed, logged, answered and written is searched. The same on
// real hosts, with their processes and disks, is in e2e.
func TestCanaries(t *testing.T) {
	c := newCanaryWorld(t)
	for _, step := range []func(){c.keys, c.plans, c.failures, c.beforeTheGreeting, c.refusals, c.verbs, c.pages, c.stacks} {
		step()
	}
	c.stop()
	c.sweep()
}

// A canaryWorld is a server in this process, its remote, and two hosts: alpha, which runs the
// real engine on a twin, and parrot.
type canaryWorld struct {
	t       *testing.T
	dir     string
	state   string
	remote  *lab.Remote
	files   map[string]string // of the working copy
	machine *lab.Machine
	hosts   []*lab.Host
	parrot  *parrot
	mynah   *mynah
	s       *serving
	out     lockedBuffer
	reader  agefile.Recipient

	first, second, third, within, oops canary.Canary
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	t.Helper()
	dir := t.TempDir()
	c := &canaryWorld{t: t, dir: dir, state: filepath.Join(dir, "state"), files: map[string]string{},
		first: canary.New("first"), second: canary.New("second"), third: canary.New("third"), within: canary.New("within"), oops: canary.New("oops")}
	c.must(os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	c.remote = lab.NewRemote(filepath.Join(dir, "config.git"))
	c.machine = lab.NewMachine(filepath.Join(dir, "alpha"))
	c.parrot = &parrot{also: c.within.Value}
	c.mynah = newMynah(t)
	alpha, err := lab.NewHost("alpha", c.machine)
	c.must(err)
	echo, err := lab.Listen("parrot", c.parrot.serve)
	c.must(err)
	c.hosts = []*lab.Host{alpha, echo}
	o := serveOptions{listen: "127.0.0.1:0", admin: "127.0.0.1:0", gap: time.Millisecond,
		deployerFlags: deployerFlags{stateDir: c.state, repo: c.remote.URL(), branch: "main", path: ".", rewritten: "follow", trace: filepath.Join(dir, "trace.json")}}
	log := slog.New(slog.NewJSONHandler(&c.out, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	c.s, err = o.start(t.Context(), c.env(), log)
	c.must(err)
	t.Cleanup(func() {
		c.stop()
		for _, h := range c.hosts {
			h.Close()
		}
	})
	printPaste(c.env(), c.s)
	c.reader, err = agefile.ParseRecipient(agefile.PublicOf(c.s.app.state.identity))
	c.must(err)
	return c
}

func (c *canaryWorld) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// env is a command's world; what it prints is kept.
func (c *canaryWorld) env(args ...string) *Env {
	vars := map[string]string{"BELLHOP_STATE_DIR": c.state, "BELLHOP_REPO": c.remote.URL(), "HOME": c.dir, "TMPDIR": filepath.Join(c.dir, "tmp")}
	return &Env{Args: args, Stdin: strings.NewReader(""), Stdout: &c.out, Stderr: &c.out, Getenv: func(k string) string { return vars[k] }}
}

// run runs a verb. An unknown one would print nothing and prove nothing.
func (c *canaryWorld) run(args ...string) int {
	c.t.Helper()
	before := len(c.out.Bytes())
	code := c.env(args...).Run(c.t.Context())
	if said := c.out.Bytes()[before:]; bytes.Contains(said, []byte("unknown command")) || bytes.Contains(said, []byte("unknown flag")) {
		c.t.Fatalf("bellhop %s: %s", strings.Join(args, " "), said)
	}
	return code
}

func (c *canaryWorld) seal(to agefile.Recipient, value string) string {
	c.t.Helper()
	p, err := agefile.Seal([]byte(value), []agefile.Recipient{to}, agefile.SealOptions{})
	c.must(err)
	return string(p)
}

// push commits the files and deploys them; it returns the run's exit code.
func (c *canaryWorld) push(message string, changed map[string]string) int {
	c.t.Helper()
	for f, text := range changed {
		c.files[f] = text
	}
	var y strings.Builder
	fmt.Fprintf(&y, "network: canaries\nreaders:\n  deployer: %s\nall:\n  services: { vault: true }\nhosts:\n", c.reader)
	for i, name := range []string{"alpha", "parrot"} {
		fmt.Fprintf(&y, "  %s: { address: %s, host_key: %s, arch: amd64 }\n", name, c.hosts[i].Address(), c.hosts[i].HostKey())
	}
	fmt.Fprintf(&y, "  mynah: { address: \"%s\", host_key: %s, arch: amd64 }\n", c.mynah.l.Addr(), c.mynah.hostKey())
	c.files["bellhop.yaml"] = y.String()
	c.remote.Commit(c.files, message, demoAuthor)
	return c.run("deploy", "--retry")
}

// want wants an exit code of a push, so that each failure is the one that is meant.
func (c *canaryWorld) want(got, want int, what string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: exit %d, want %d; last words:\n%s", what, got, want, tail(c.out.Bytes(), 2000))
	}
}

func tail(p []byte, n int) []byte { return p[max(0, len(p)-n):] }

const vaultService = `keys:
  one: { user: root, group: root }
  two: { persist: sealed }
`

// keys deploys keys, a sealed one, a template with one in it and an env file; then other values.
func (c *canaryWorld) keys() {
	c.files["services/vault/vault.service"] = "[Service]\nEnvironmentFile=/etc/vault/env\nExecStart=/bin/vault\n[Install]\nWantedBy=multi-user.target\n"
	c.files["services/vault/service.yaml"] = vaultService
	c.files["services/vault/files/etc/vault/db.json.tmpl"] = `{"password": {{ key "one" | json }}, "again": "{{ key "one" | base64 }}"}`
	c.files["services/vault/files/etc/vault/url.tmpl"] = `at postgres://me:{{ key "within" }}@db/x`
	c.files["secrets/within.age"] = c.seal(c.reader, c.within.Value)
	c.files["services/vault/files/etc/vault/env.tmpl"] = `TOKEN={{ key "two" | env }}`
	c.want(c.push("first", map[string]string{"secrets/one.age": c.seal(c.reader, c.first.Value), "secrets/two.age": c.seal(c.reader, c.first.Value)}), 3, "first push")
	for path, want := range map[string]string{"/run/keys/one": c.first.Value, "/run/keys/two": c.first.Value} {
		if got, err := os.ReadFile(c.machine.Path(path)); err != nil || string(got) != want {
			c.t.Fatalf("%s on alpha does not hold the canary (%v): the sweep would prove nothing", path, err)
		}
	}
	c.push("second", map[string]string{"secrets/one.age": c.seal(c.reader, c.second.Value), "secrets/two.age": c.seal(c.reader, c.second.Value+"\n")})
	if c.parrot.heard() == 0 {
		c.t.Error("the parrot was sent no key, so it had nothing to say")
	}
	c.must(c.machine.Reboot())
	c.run("key", "push")
	c.run("reboot", "--help")
}

// plans prints what would change when a value does.
func (c *canaryWorld) plans() {
	c.files["secrets/one.age"] = c.seal(c.reader, c.third.Value)
	c.remote.Commit(c.files, "third", demoAuthor)
	c.run("plan")
	c.run("plan", "--json")
	c.must(c.checkout())
	c.run("plan", "--offline", filepath.Join(c.dir, "work"))
	c.run("check", filepath.Join(c.dir, "work"))
}

// checkout writes the files where a person has them.
func (c *canaryWorld) checkout() error {
	for f, text := range c.files {
		p := filepath.Join(c.dir, "work", f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// failures makes what happens on hosts and while secrets are opened go wrong.
func (c *canaryWorld) failures() {
	c.machine.Fail("vault.service")
	c.want(c.push("a line break in an env file", nil), 4, "a line break in an env file")
	c.machine.Say("vault.service", "the value is", c.third.Value[:20], c.third.Value[20:], "or "+c.third.Value)
	c.want(c.push("a unit that does not start", map[string]string{"secrets/one.age": c.seal(c.reader, c.third.Value), "secrets/two.age": c.seal(c.reader, c.third.Value)}), 3, "failing unit")
	c.machine.Mend("vault.service")
	good := c.seal(c.reader, c.second.Value)
	stranger := "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq"
	if to, err := agefile.ParseRecipient(stranger); err == nil {
		c.want(c.push("for somebody else", map[string]string{"secrets/one.age": c.seal(to, c.third.Value)}), 4, "somebody else's secret")
	} else {
		c.t.Error(err)
	}
	c.want(c.push("cut off", map[string]string{"secrets/one.age": good[:len(good)-5]}), 4, "a secret that ends early")
	c.want(c.push("one bit", map[string]string{"secrets/one.age": good[:len(good)-9] + "x" + good[len(good)-8:]}), 4, "a secret with a damaged end")
	for name, bad := range map[string]string{
		"range":  `{{ range key "one" }}{{ end }}`,
		"index":  `{{ index (key "one") "x" }}`,
		"field":  `{{ (key "one").Foo }}`,
		"call":   `{{ call (key "one") }}`,
		"lookup": `{{ index .Settings (key "one") (key "one") }}`,
		"host":   `{{ (.Fleet.Host (key "one")).Name }}`,
		"env":    `X={{ env (printf "%s\n" (key "one")) }}`,
		"join":   `{{ join "," (key "one") }}`,
	} {
		c.want(c.push("a template that fails: "+name, map[string]string{"secrets/one.age": good, "services/vault/files/etc/vault/db.json.tmpl": bad}), 4, name)
	}
	c.files["services/vault/files/etc/vault/db.json.tmpl"] = `{{ key "one" }}`
	c.hosts[0].Cut()
	c.want(c.push("nobody there", map[string]string{"services/vault/files/etc/x": "x\n"}), 3, "a host that is away")
	c.must(c.hosts[0].Mend())
}

// refusals pushes what is refused whole: plaintext, a private key, a mangled file.
func (c *canaryWorld) refusals() {
	good := c.seal(c.reader, c.second.Value)
	for name, text := range map[string]string{
		"secrets/oops.age": c.oops.Value + "\n",
		"secrets/plain":    "PASSWORD=" + c.oops.Value,
		"notes/mangled":    "-----BEGIN OPENSSH PRIVATE " + "KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACAfake\n" + c.oops.Value + "\n-----END OPENSSH PRIVATE " + "KEY-----\n",
		"secrets/one.age":  strings.Replace(good, "\n", "\r\n", 1),
		"services/vault/vault.service.d/x.conf.tmpl": `[Service]` + "\n" + `Environment=X={{ key "one" }}` + "\n",
	} {
		was, had := c.files[name]
		before := len(c.out.Bytes())
		code := c.push("refused: "+name, map[string]string{name: text})
		said := string(c.out.Bytes()[before:])
		delete(c.files, name)
		if had {
			c.files[name] = was
		}
		c.removeFromRemote(name, had)
		c.want(code, 4, name)
		if !strings.Contains(said, name) {
			c.t.Errorf("the refusal of %s does not name it", name)
		}
		if (name == "secrets/oops.age" || name == "secrets/plain") && !strings.Contains(said, "git's history") {
			c.t.Errorf("the refusal of %s does not say that the value is in git's history", name)
		}
	}
	c.must(c.checkout())
	c.must(os.WriteFile(filepath.Join(c.dir, "work/secrets/oops.age"), []byte(c.oops.Value), 0o600))
	c.run("secret", "verify", "-C", filepath.Join(c.dir, "work"))
	c.must(os.Remove(filepath.Join(c.dir, "work/secrets/oops.age")))
}

// removeFromRemote takes a file out of the repo again.
func (c *canaryWorld) removeFromRemote(name string, had bool) {
	if !had {
		c.remote.Commit(map[string]string{"-" + name: ""}, "away with "+name, demoAuthor)
	}
}

// verbs runs what reports.
func (c *canaryWorld) verbs() {
	work := filepath.Join(c.dir, "work")
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"history"}, {"history", "--evidence"}, {"history", "--json"}, {"key", "status"}, {"key", "status", "--json"}, {"plan"},
		{"ring", "--follow"}, {"webhook", "list"}, {"deploy", "--all"},
		{"secret", "list", "-C", work}, {"secret", "who", "-C", work}, {"secret", "verify", "-C", work}, {"secret", "rekey", "--check", "-C", work},
		{"secret", "show", "one", "-C", work, "-i", "/nonexistent"}, {"exec", "--on", "alpha", "--", "true"},
	} {
		c.run(args...)
	}
}

// pages asks the listeners, with good questions and bad ones.
func (c *canaryWorld) pages() {
	for _, url := range []string{
		"http://" + c.s.adminAddress + "/", "http://" + c.s.adminAddress + "/metrics", "http://" + c.s.adminAddress + "/readyz", "http://" + c.s.adminAddress + "/v1/status",
		"http://" + c.s.adminAddress + "/v1/history", "http://" + c.s.adminAddress + "/debug/pprof/heap", "http://" + c.s.adminAddress + "/nothing",
		"http://" + c.s.address + "/healthz", "http://" + c.s.address + "/v1/webhook",
	} {
		req, err := http.NewRequest("GET", url, nil)
		c.must(err)
		token, err := readToken(c.s.adminTokenFile)
		c.must(err)
		req.SetBasicAuth("", token)
		resp, err := http.DefaultClient.Do(req)
		c.must(err)
		fmt.Fprintln(&c.out, resp.Status, resp.Header)
		if n, _ := io.Copy(&c.out, resp.Body); strings.HasSuffix(url, "/v1/status") && n < 100 {
			c.t.Errorf("GET %s: %s, %d bytes", url, resp.Status, n)
		}
		resp.Body.Close()
	}
}

// stacks prints what a panic would, at the moment when a value is in hand, and %#v of what
// holds private keys.
func (c *canaryWorld) stacks() {
	l := c.s.app.deployer.Loader
	open := l.Open
	var n atomic.Int32
	l.Open = func(tree fs.FS, path string) ([]byte, error) {
		v, err := open(tree, path)
		if err == nil {
			n.Add(1)
			held(v, func() {
				c.out.Write(debug.Stack())
				all := make([]byte, 1<<20)
				c.out.Write(all[:runtime.Stack(all, true)])
			})
		}
		return v, err
	}
	c.push("once more", map[string]string{"secrets/one.age": c.seal(c.reader, c.third.Value), "secrets/two.age": c.seal(c.reader, c.third.Value)})
	if n.Load() == 0 { // Open stays: a line to a host may still be at it
		c.t.Error("no stack was printed")
	}
	fmt.Fprintf(&c.out, "%v %+v %#v %s\n", c.s.app.ids, c.s.app.ids, c.s.app.ids, c.s.app.ids)
}

//go:noinline
func held(v []byte, f func()) { f(); runtime.KeepAlive(v) }

func (c *canaryWorld) stop() {
	if c.s != nil {
		if err := c.s.stop(); err != nil {
			c.t.Error(err)
		}
		c.s = nil
	}
}

// sweep searches all that is left. Known places are the keys' own on alpha, the remote and its
// clone for the value that was committed in the clear, and nothing else.
func (c *canaryWorld) sweep() {
	c.t.Helper()
	s := canary.NewSweep(c.first, c.second, c.third, c.within, c.oops)
	s.Look("an output", c.out.Bytes())
	for _, p := range []string{"/proc/self/cmdline", "/proc/self/environ"} {
		s.File(p)
	}
	clone, keys := filepath.Join(c.state, "repo.git"), c.machine.Path("/run/keys")
	s.Tree(c.dir, func(p string) bool {
		return p == keys || p == c.remote.Dir || p == clone || p == filepath.Join(c.dir, "parrot")
	})
	for _, f := range s.Found() {
		c.t.Error(f)
	}
	git := canary.NewSweep(c.first, c.second, c.third, c.within)
	git.Tree(clone, nil)
	for _, f := range git.Found() {
		c.t.Error(f)
	}
	left, err := os.ReadDir(keys)
	c.must(err)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), ".") {
			c.t.Errorf("%s is left in /run/keys", e.Name())
		}
	}
	// The same sweep over the places that were left out finds what is there: it can fail.
	for name, root := range map[string]string{"the keys' place": keys, "the clone with what was pushed in the clear": clone} {
		known := canary.NewSweep(c.first, c.second, c.third, c.within, c.oops)
		known.Tree(root, nil)
		if len(known.Found()) == 0 {
			c.t.Errorf("nothing was found in %s: the sweep sees nothing", name)
		}
	}
	if p, err := os.ReadFile(filepath.Join(c.dir, "trace.json")); err != nil || !bytes.Contains(p, []byte("‹key ")) || !bytes.Contains(p, []byte(`"name":"parrot"`)) {
		c.t.Errorf("the trace has no filtered word of the parrot (%v)", err)
	}
	if bytes.Count(c.out.Bytes(), []byte("‹key ")) == 0 {
		c.t.Error("no text was filtered: the parrot did not speak")
	}
	files, _, n := s.Seen()
	c.t.Logf("%d files, %d bytes, %d of them output", files, n, len(c.out.Bytes()))
	if files < 40 || len(c.out.Bytes()) < 20_000 {
		c.t.Error("the sweep looked at too little")
	}
}

// A parrot is a host that takes its keys and says them back in every way a program might, in
// every text that a host can send.
type parrot struct {
	mu   sync.Mutex
	keys int
	also string // a value that reached it inside of another
}

func (p *parrot) heard() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

func (p *parrot) serve(_ context.Context, in io.Reader, out io.Writer) error {
	if _, err := io.WriteString(out, bundle.Magic); err != nil {
		return err
	}
	if err := wire.WriteFrame(out, bundle.FrameHello, bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: "b", Systemd: 252}); err != nil {
		return err
	}
	r := wire.NewReader(in)
	var o bundle.Offer
	if err := r.Expect(bundle.FrameOffer, &o); err != nil {
		return nil // it only wanted to know
	}
	if err := wire.WriteFrame(out, bundle.FrameWant, bundle.Want{}); err != nil {
		return err
	}
	said, err := p.listen(r)
	if err != nil {
		return err
	}
	res := bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRolledBack, Error: strings.Join(said, "; "), Changed: said, Restored: said, Kept: said,
		Started: said, Stopped: said, Restarted: said, Reloaded: said, Drifted: said, Warnings: said}
	for _, s := range said {
		halves := []string{"it begins here", s[:len(s)/2], s[len(s)/2:], "and has ended"}
		res.Evidence = append(res.Evidence, bundle.Evidence{Service: s, Unit: s, Probe: s, Result: s, Lines: said}, bundle.Evidence{Unit: "x.service", Lines: halves})
		if err := wire.WriteFrame(out, bundle.FrameEvent, bundle.Event{Step: "start", Text: s}); err != nil {
			return err
		}
		if err := wire.WriteFrame(out, bundle.FrameEvent, bundle.Event{Step: s, Text: "x"}); err != nil {
			return err
		}
		res.Keys = append(res.Keys, bundle.KeyState{Name: s, Source: s, Unit: s})
	}
	res.Record = &bundle.Record{Network: "canaries", Host: said[0], Deployer: said[0], Digest: said[0], BootID: said[0]}
	return wire.WriteFrame(out, bundle.FrameResult, &res)
}

// listen takes what is sent, and returns the values' spellings.
func (p *parrot) listen(r *wire.Reader) ([]string, error) {
	said := []string{"hello"}
	for {
		kind, payload, err := r.Next()
		if err != nil || kind == bundle.FrameEnd {
			return said, err
		}
		var b bundle.Blob
		if err := bundle.Unmarshal(payload, &b); err != nil {
			return nil, err
		}
		var v bytes.Buffer
		if err := r.Data(b, &v); err != nil {
			return nil, err
		}
		if b.Kind != bundle.BlobKey {
			continue
		}
		p.mu.Lock()
		p.keys++
		p.mu.Unlock()
		if strings.Contains(v.String(), p.also) {
			said = append(said, spellings(p.also)...)
		} else if v.Len() >= 46 { // a canary, not a template around one
			said = append(said, spellings(strings.TrimRight(v.String(), "\n"))...)
		}
	}
}

// spellings are those that the filter promises to know.
func spellings(v string) (out []string) {
	quoted, _ := json.Marshal(v)
	plain := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<").Replace(string(quoted))
	out = []string{v, hex.EncodeToString([]byte(v)), strings.ToUpper(hex.EncodeToString([]byte(v))), url.QueryEscape(v), url.PathEscape(v), string(quoted), plain}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
		for _, user := range []string{"", "u", "u:", "me:"} {
			out = append(out, e.EncodeToString([]byte(user+v)), e.EncodeToString([]byte(user+v+"\n")))
		}
	}
	for i := range out {
		out[i] = "it says " + out[i] + "."
	}
	return out
}
