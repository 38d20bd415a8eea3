package deploy_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// A world is a config repo, hosts that run the real engine on a twin, and a deployer.
type world struct {
	t        testing.TB
	files    map[string]string
	machines map[string]*lab.Machine
	hosts    map[string]*lab.Host
	yaml     map[string]string // lines of each host in bellhop.yaml
	pool     *link.Pool
	signer   ssh.Signer
	top      string // more lines at the top of bellhop.yaml
	confirm  string // of bellhop.yaml; most tests are about other things, and do without
	db       *history.DB
	d        *deploy.Deployer

	mu      sync.Mutex
	commits []commits.Snapshot
	syncs   int
	events  []follow.Event
}

// atOnce has a run push all hosts together, where that is not what a test is about.
const atOnce = "rollout: { waves: [] }\n"

const unit = "[Service]\nExecStart=/bin/%s\n[Install]\nWantedBy=multi-user.target\n"

func newWorld(t testing.TB, names ...string) *world {
	t.Helper()
	w := &world{t: t, confirm: "0s", files: map[string]string{}, machines: map[string]*lab.Machine{}, hosts: map[string]*lab.Host{}, yaml: map[string]string{}}
	w.signer = w.newSigner()
	var err error
	w.db, err = history.Open(filepath.Join(t.TempDir(), "bellhop.db"))
	w.must(err)
	t.Cleanup(func() { w.db.Close() })
	w.pool = link.NewPool(link.Config{Signers: func() ([]ssh.Signer, error) { return []ssh.Signer{w.signer}, nil }, Helper: noHelper, DialTimeout: 2 * time.Second})
	t.Cleanup(func() { w.pool.Close() })
	w.d = w.deployer("SHA256:one")
	w.service("web", nil)
	for _, n := range names {
		w.host(n, "web")
	}
	return w
}

// newSigner makes a key to log in with.
func (w *world) newSigner() ssh.Signer {
	w.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	signer, err := ssh.NewSignerFromKey(key)
	w.must(err)
	return signer
}

// noHelper says that the helper is there under a digest that the lab does not check.
func noHelper(goos, goarch string) (string, string, error) {
	return "", "", fmt.Errorf("no helper for %s/%s", goos, goarch)
}

func (w *world) must(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// deployer makes one more deployer of the same repo, by its own id.
func (w *world) deployer(id string) *deploy.Deployer {
	mac := []byte(id)
	return &deploy.Deployer{
		Source: commits.Source{
			Sync: func(context.Context) (commits.Snapshot, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.syncs++
				return w.commits[len(w.commits)-1], nil
			},
			At: func(_ context.Context, commit string) (commits.Snapshot, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, c := range w.commits {
					if c.Commit == commit {
						return c, nil
					}
				}
				return commits.Snapshot{}, fs.ErrNotExist
			},
		},
		Loader: &fleet.Loader{
			Open:      func(tree fs.FS, path string) ([]byte, error) { return fs.ReadFile(tree, path) },
			KeyDigest: func(v []byte) string { return hex.EncodeToString(bundle.KeyMAC(mac, v)) },
		},
		Links: routes.Over(w.pool), History: w.db, ID: id, Branch: "main", BootID: "not a host of the lab",
		Cache: w.t.TempDir(), Log: slog.New(slog.NewTextHandler(logTo{w.t}, nil)),
		Limits: deploy.Limits{Retry: 20 * time.Millisecond},
		Progress: func(e follow.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
}

type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// host adds a machine to the lab and to the repo, with services switched on.
func (w *world) host(name string, services ...string) {
	w.t.Helper()
	m := lab.NewMachine(w.t.TempDir())
	h, err := lab.NewHost(name, m)
	w.must(err)
	w.t.Cleanup(func() {
		h.Close()
		m.WaitApply(time.Minute) // a run outlives its connection, and writes to a folder that goes
	})
	w.machines[name], w.hosts[name] = m, h
	w.enable(name, services...)
}

func (w *world) enable(name string, services ...string) {
	h := w.hosts[name]
	y := fmt.Sprintf("  %s:\n    address: %s\n    host_key: %s\n    arch: amd64\n", name, h.Address(), h.HostKey())
	if len(services) > 0 {
		y += "    services:\n"
		for _, s := range services {
			y += "      " + s + ": true\n"
		}
	}
	w.yaml[name] = y
}

// service writes a service folder with one unit and one file; more says its service.yaml.
func (w *world) service(name string, files map[string]string) {
	w.files["services/"+name+"/"+name+".service"] = fmt.Sprintf(unit, name)
	w.files["services/"+name+"/files/etc/"+name+".conf"] = "hello\n"
	for p, text := range files {
		w.files["services/"+name+"/"+p] = text
	}
}

// commit makes a commit of what the repo holds now, and returns its id.
func (w *world) commit(message string) string {
	w.t.Helper()
	var y strings.Builder
	y.WriteString("network: lab\nconfirm: " + w.confirm + "\n" + w.top + "hosts:\n")
	for _, n := range sorted(maps.Keys(w.yaml)) {
		y.WriteString(w.yaml[n])
	}
	w.files["bellhop.yaml"] = y.String()
	tree := fstest.MapFS{}
	for p, text := range w.files {
		tree[p] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := fmt.Sprintf("%040x", len(w.commits)+1)
	w.commits = append(w.commits, commits.Snapshot{Commit: id, Author: "cadey", Subject: strings.SplitN(message, "\n", 2)[0], Message: message, Time: time.Now(), Tree: tree})
	return id
}

// push commits and runs, and wants the run to end as outcome.
func (w *world) push(message string, outcome history.Outcome) *history.Run {
	w.t.Helper()
	w.commit(message)
	return w.run(plan.Request{Cause: "push"}, outcome)
}

func (w *world) run(req plan.Request, outcome history.Outcome) *history.Run {
	w.t.Helper()
	r, err := w.d.Run(w.t.Context(), req)
	if r == nil {
		w.t.Fatalf("Run: %v", err)
	}
	if got := *r.Outcome; got != outcome {
		w.t.Fatalf("run ended %s (%v), want %s: %s", got, err, outcome, w.tell(r))
	}
	return r
}

func (w *world) tell(r *history.Run) string {
	var b strings.Builder
	for _, h := range r.Hosts {
		fmt.Fprintf(&b, "%s: ", h.Name)
		if h.Outcome != nil {
			b.WriteString(string(*h.Outcome))
		}
		if h.Error != nil {
			b.WriteString(": " + *h.Error)
		}
		b.WriteString("; ")
	}
	return b.String()
}

// state is what status says of a host.
func (w *world) state(name string) history.HostStatus {
	w.t.Helper()
	s, err := w.db.Status(w.t.Context())
	w.must(err)
	for _, h := range s.Hosts {
		if h.Name == name {
			return h
		}
	}
	w.t.Fatalf("status has no host %s", name)
	return history.HostStatus{}
}

func (w *world) wantState(name string, state history.State, commit string) {
	w.t.Helper()
	h := w.state(name)
	got := ""
	if h.Commit != nil {
		got = *h.Commit
	}
	if h.State != state || got != commit {
		e := ""
		if h.Error != nil {
			e = *h.Error
		}
		w.t.Errorf("%s is %s at %q (%s), want %s at %q", name, h.State, got, e, state, commit)
	}
}

func (w *world) sessions(name string) int { return int(w.hosts[name].Counts().Sessions) }
