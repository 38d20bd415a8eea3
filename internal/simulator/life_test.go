package simulator

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/internal/history"
	"bellhop/server"
)

// A life is one process of bellhop, from its start to its end. The next one has its database.
type life struct {
	w      *world
	db     *history.DB
	d      *deploy.Deployer
	bell   *bell.Bell
	server *server.Server

	runs    map[string]*progress
	retries map[string]bool // runs that a person asked for who wants what failed tried again
	persons map[string]bool // runs that a person asked for
	loaded  map[string]int  // by run, the index of the commit that it is of
	began   sync.Map        // when each run began
	ctx     context.Context
	cancel  context.CancelFunc
	dead    atomic.Bool   // it was killed: what is left of it reaches nobody, and writes nothing
	died    chan struct{} // closed then
	work    sync.WaitGroup
}

const (
	pollEvery  = 5 * time.Minute
	deployerID = "SHA256:one"
)

var secret = []byte("a webhook secret of some length")

// start starts a bellhop on what the one before left.
func (w *world) start() {
	l := &life{w: w, died: make(chan struct{}), runs: map[string]*progress{}, retries: map[string]bool{}, persons: map[string]bool{}, loaded: map[string]int{}}
	w.disk.plugIn(l.kill)
	db, err := history.Open(w.disk.path)
	if err != nil {
		w.t.Fatal(err)
	}
	known, err := db.Deliveries(context.Background(), 1000)
	if err != nil {
		w.t.Fatal(err)
	}

	l.db = db
	l.d = &deploy.Deployer{
		Source: commits.Source{Sync: l.sync, Head: l.head, Far: true, At: func(_ context.Context, id string) (commits.Snapshot, error) { return w.repo.at(id) }},
		Loader: newLoader(), Links: links{w, l}, History: db, ID: deployerID, BootID: "none", MachineID: "none", Branch: "main", Detach: true,
		Jitter: func(most time.Duration) time.Duration { return w.jitter(most) },
	}
	if *withSteps {
		l.d.Log = slog.New(slog.NewTextHandler(logged{&w.trace}, nil))
	}
	if w.rules != beforePersons {
		l.d.Since = w.since
	}
	l.d.Progress = func(e follow.Event) {
		if *withSteps {
			w.trace.add(e.Host, "  %s %s %s %s", e.Run, e.Step, e.Outcome, e.Text)
		}
		l.began.LoadOrStore(e.Run, time.Now())
		if e.Step == "load" {
			w.loads(l, e)
		}
		if e.Step == "plan" {
			w.planned(l, e.Run)
		}
		w.follow(l, e)
	}
	l.bell = deploy.NewBell(l.d)
	l.server, err = server.New(server.Config{
		Secret: secret, Bell: l.bell, Record: db, Known: known, Holds: w.holds,
		Jitter: func(most time.Duration) time.Duration { return most/3 + 7919 },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	l.bell.Looked = l.server.Looked

	ctx, cancel := context.WithCancel(context.Background())
	l.ctx, l.cancel = ctx, cancel
	w.mu.Lock()
	w.life = l
	if w.isUnsure {
		w.isUnsure, w.pause = false, knownPause(db)
	}
	w.mu.Unlock()
	l.work.Go(func() { l.server.Serve(ctx, server.Listeners{}) })
	l.work.Go(func() { l.server.Poll(ctx, pollEvery, false) })
	l.work.Go(func() { l.bell.Serve(ctx) })
	w.trace.add("", "bellhop starts")
}

// knownPause is the pause that bellhop knows of.
func knownPause(db *history.DB) *pause {
	p, err := db.Pauses().Now()
	if err != nil || p == nil {
		return nil
	}
	return &pause{began: p.Since, until: p.Until, then: p.Then}
}

func (l *life) isDead() bool { return l.dead.Load() }

// kill is what the disk calls: from here on nothing of this life reaches anybody.
func (l *life) kill() {
	if !l.dead.CompareAndSwap(false, true) {
		return
	}
	l.w.trace.add("", "bellhop is killed")
	close(l.died)
	l.cancel()
	go l.w.hangUp()
}

// end waits for what is left of a life, and closes its file.
func (l *life) end() {
	l.cancel()
	l.work.Wait()
	l.dead.Store(true)
	l.w.disk.unplug()
	l.w.hangUp()
	l.d.Wait(context.Background())
	l.db.Close()
}

// look asks the remote, which takes a moment.
func (l *life) look(ctx context.Context) error {
	l.w.mu.Lock()
	l.w.looks++
	wait := time.Duration(5+l.w.looks%23)*time.Millisecond + 31
	l.w.mu.Unlock()
	if !sleep(ctx, wait) {
		return context.Cause(ctx)
	}

	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.isAway || l.isDead() {
		return errors.New("the remote does not answer")
	}
	return nil
}

func (l *life) sync(ctx context.Context) (commits.Snapshot, error) {
	if err := l.look(ctx); err != nil {
		return commits.Snapshot{}, err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.repo.head(), nil
}

func (l *life) head(ctx context.Context) (string, error) {
	s, err := l.sync(ctx)
	return s.Commit, err
}

// holds says whether a head holds a commit: history here is one line.
func (w *world) holds(_ context.Context, head, commit string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.repo.index(head) >= w.repo.index(commit), nil
}

// deliver brings a delivery to bellhop, which may not be there.
func (w *world) deliver(id, before, after string) {
	w.mu.Lock()
	l, isAway := w.life, w.isAway
	w.mu.Unlock()
	if l == nil || l.isDead() || isAway {
		w.trace.add("", "delivery %s comes to nobody", id)
		return
	}

	body := fmt.Sprintf(`{"ref":"refs/heads/main","before":%q,"after":%q,"repository":{"full_name":"within/hexagone"}}`, before, after)
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(body))
	r := httptest.NewRequest(http.MethodPost, "/v1/webhook", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": id,
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(m.Sum(nil)),
	} {
		r.Header.Set(name, value)
	}
	answer := httptest.NewRecorder()
	l.server.Public().ServeHTTP(answer, r)
	w.trace.add("", "delivery %s is answered %d", id, answer.Code)
	if answer.Code >= 300 {
		w.blame("delivery %s was answered %d: %s", id, answer.Code, answer.Body)
	}
}
