//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A canary is a secret value that must be found nowhere but in RAM and below /run/keys.
type canary struct {
	name  string
	forms map[string][]byte
}

// newCanary makes a random value and every form in which it could leak.
func newCanary(name string) (string, canary) {
	raw := make([]byte, 18)
	rand.Read(raw)
	v := "canary+" + base64.StdEncoding.EncodeToString(raw) + "/&\"=end"
	sum := sha256.Sum256([]byte(v))
	quoted, _ := json.Marshal(v)
	forms := map[string][]byte{
		"raw":         []byte(v),
		"hex":         []byte(hex.EncodeToString([]byte(v))),
		"URL":         []byte(url.QueryEscape(v)),
		"JSON":        quoted[1 : len(quoted)-1],
		"SHA-256":     []byte(hex.EncodeToString(sum[:])),
		"SHA-256 raw": sum[:],
	}
	for shift := range 3 { // base64 of it inside something longer: the middle is the same for each shift
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + v))
		forms[fmt.Sprintf("base64+%d", shift)] = []byte(enc[8 : len(enc)-8])
	}
	return v, canary{name, forms}
}

// sweep reports every canary form that stands in p.
func sweep(cs []canary, where string, p []byte) []string {
	var found []string
	for _, c := range cs {
		for form, f := range c.forms {
			if bytes.Contains(p, f) {
				found = append(found, fmt.Sprintf("%s as %s in %s", c.name, form, where))
			}
		}
	}
	return found
}

// sweepTree sweeps all regular files below root.
func sweepTree(t *testing.T, cs []canary, root string) (found []string, files int) {
	t.Helper()
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil // gone meanwhile
		}
		files++
		found = append(found, sweep(cs, p, b)...)
		return nil
	})
	return found, files
}

// sampler reads argv and environment of every process of this machine, the hosts' included,
// until stop is closed.
func sampler(cs []canary, stop chan struct{}) func() (found []string, samples int) {
	var wg sync.WaitGroup
	var found []string
	samples := 0
	seen := map[string]bool{}
	wg.Go(func() {
		for {
			for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
				ps, _ := filepath.Glob(pattern)
				for _, p := range ps {
					b, err := os.ReadFile(p)
					if err != nil || len(b) == 0 {
						continue
					}
					samples++
					for _, f := range sweep(cs, filepath.Base(p)+" of a process: "+string(bytes.SplitN(b, []byte{0}, 2)[0]), b) {
						if !seen[f] {
							seen[f] = true
							found = append(found, f)
						}
					}
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return func() ([]string, int) { close(stop); wg.Wait(); return found, samples }
}

// Random secrets go through success and every failure; afterwards all outputs, the state
// directory, temp directories, argv and environments, and the hosts' disks are searched.
func TestCanaries(t *testing.T) {
	w := newWorld(t)
	w.stop()
	t.Setenv("TMPDIR", t.TempDir())
	w.env = append(w.env, "TMPDIR="+os.Getenv("TMPDIR"))
	w.start("--log-level", "debug")
	var outputs bytes.Buffer
	say := func(out string, code int) string { outputs.WriteString(out); return out }

	one, c1 := newCanary("one")
	two, c2 := newCanary("two")
	three, c3 := newCanary("three")
	cs := []canary{c1, c2, c3}
	result := sampler(cs, make(chan struct{}))

	w.writeKeys()
	w.secret("reader", one)
	w.push("canaries")
	w.secret("reader", two)
	say(w.try("plan"))
	say(w.try("plan", "--json"))
	w.push("another value")

	// a unit that prints its environment and its key, and dies
	w.write(map[string]string{
		"services/leaky/leaky.service": `[Service]
EnvironmentFile=/run/keys/leaky
ExecStart=/bin/sh -c 'env; cat /run/keys/leaky; cat /run/keys/leaky >&2; exit 3'
[Install]
WantedBy=multi-user.target
`,
		"services/leaky/service.yaml": "keys: [leaky]\n",
	})
	w.enable("kos-mos", "idle: true", "leaky: true")
	w.secret("leaky", "LEAK='"+three+"'\n")
	c := w.commit("a unit that prints its environment and dies")
	w.deliver(c)
	w.waitState(c, "kos-mos", "rolled-back")

	// a secret that does not open, a plaintext one, a mangled one
	w.sh(w.work, "age-keygen -o /dev/null 2>&1 | sed 's/.*: //' >/dev/null; age -r $(age-keygen 2>/dev/null | age-keygen -y) -o secrets/leaky.age services/leaky/leaky.service")
	c = w.commit("a secret for somebody else")
	w.deliver(c)
	w.waitState(c, "kos-mos", "refused")
	w.write(map[string]string{"secrets/oops.age": one + "\n"})
	c = w.commit("plaintext")
	w.deliver(c)
	w.waitState(c, "chrysalis", "refused")
	say(w.try("secret", "verify"))
	say(w.try("check"))
	w.sh(w.work, "git rm -qf secrets/oops.age secrets/leaky.age && rm -rf services/leaky")
	w.enable("kos-mos", "idle: true")
	w.push("mended")

	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history"}, {"history", "--json"}, {"key", "status"}, {"secret", "list"}, {"secret", "who"},
		{"plan", "--offline", "."}, {"secret", "show", "reader", "--identity", "/nonexistent"}} {
		say(w.try(args...))
	}
	for _, path := range []string{"/", "/metrics", "/v1/status", "/v1/history"} {
		if resp, err := http.Get("http://" + w.admin + path); err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			outputs.Write(b)
		}
	}
	w.stop()
	outputs.WriteString(w.log.String())

	found, samples := result()
	found = append(found, sweep(cs, "an output", outputs.Bytes())...)
	files := 0
	for _, root := range []string{w.state, os.Getenv("TMPDIR"), filepath.Join(rigDir(), "host1/upper"), filepath.Join(rigDir(), "host2/upper"), filepath.Join(rigDir(), "host3/upper")} {
		f, n := sweepTree(t, cs, root)
		files += n
		for _, line := range f {
			// the program itself wrote these: the reader its key, the dying unit its journal
			if strings.HasSuffix(line, "/srv/reader/seen") || strings.Contains(line, "/var/log/journal/") {
				continue
			}
			found = append(found, line)
		}
	}
	// the one plaintext that a person committed is in git's packs, compressed, and named so
	for _, f := range found {
		t.Error(f)
	}
	t.Logf("%d bytes of output, %d files, %d samples of argv and environ", outputs.Len(), files, samples)
	if outputs.Len() < 1000 || files < 50 || samples < 1000 {
		t.Errorf("the sweep looked at too little")
	}
}

// The sweep can fail: a planted canary is caught in each place.
func TestCanaryIsCaught(t *testing.T) {
	v, c := newCanary("planted")
	cs := []canary{c}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "x"), []byte(`{"a":"`+base64.StdEncoding.EncodeToString([]byte("zz"+v))+`"}`), 0o600)
	if found, _ := sweepTree(t, cs, dir); len(found) != 1 {
		t.Errorf("in a file, base64: found %v", found)
	}
	result := sampler(cs, make(chan struct{}))
	sh("", "X='"+strings.ReplaceAll(v, "'", "")+"' sleep 0.5")
	if found, _ := result(); len(found) == 0 {
		t.Error("in an environment: not found")
	}
	for form, f := range c.forms {
		if len(sweep(cs, "", append([]byte("before "), f...))) == 0 {
			t.Errorf("as %s: not found", form)
		}
	}
}
