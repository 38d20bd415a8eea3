package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bellhop/deploy/drift"
	"bellhop/internal/bundle"
	"bellhop/internal/forge"
	"bellhop/internal/notify"
	"bellhop/secrets/agefile"
	"bellhop/server"
)

// The demo's bad day: a push that breaks a service, and the message that tells its author.

// A demoSink is where the demo's messages and commit statuses go to, in the place of a messenger and of GitHub.
type demoSink struct {
	listener net.Listener
	got      chan notify.Message
	statuses chan demoStatus
}

// A demoStatus is what a forge shows beside a commit.
type demoStatus struct {
	Commit      string `json:"-"`
	State       string `json:"state"`
	Description string `json:"description"`
	Context     string `json:"context"`
}

// demoRepo is the repo of the demo, as its forge calls it.
const demoRepo = "cadence/hexagone"

// forge is what the demo's server is told of its forge.
func (s *demoSink) forge(dir string) (forgeFlags, error) {
	token := filepath.Join(dir, "forge-token")
	err := os.WriteFile(token, []byte("a-token-of-the-demo\n"), 0o600)
	return forgeFlags{kind: string(forge.GitHub), url: "http://" + s.listener.Addr().String(), token: token, comments: "off"}, err
}

// answerWith takes what the demo does not show.
func answerWith(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// takeStatus takes a commit status, as GitHub does.
func (s *demoSink) takeStatus(w http.ResponseWriter, r *http.Request) {
	status := demoStatus{Commit: r.PathValue("commit")}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&status); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "{}")
	select {
	case s.statuses <- status:
	default: // nobody looks any more
	}
}

// last waits for the last status of a commit.
func (s *demoSink) last(ctx context.Context, commit string) (demoStatus, error) {
	late := time.After(5 * time.Minute)
	for {
		select {
		case <-ctx.Done():
			return demoStatus{}, ctx.Err()
		case <-late:
			return demoStatus{}, errors.New("no commit status came")
		case status := <-s.statuses:
			if status.Commit == commit && status.State != string(forge.Pending) {
				return status, nil
			}
		}
	}
}

// newDemoSink listens on the loopback.
func newDemoSink() (*demoSink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}

	s := &demoSink{listener: l, got: make(chan notify.Message, 8), statuses: make(chan demoStatus, 100)}
	mux := http.NewServeMux()
	mux.Handle("POST /furryhole", s)
	mux.HandleFunc("POST /repos/"+demoRepo+"/statuses/{commit}", s.takeStatus)
	mux.HandleFunc("GET /repos/"+demoRepo+"/deployments", answerWith(http.StatusOK, "[]"))
	mux.HandleFunc("POST /repos/"+demoRepo+"/deployments", answerWith(http.StatusCreated, `{"id":1}`))
	mux.HandleFunc("POST /repos/"+demoRepo+"/deployments/{id}/statuses", answerWith(http.StatusCreated, `{"id":1}`))
	go func() { _ = http.Serve(l, mux) }() // it ends with its listener
	return s, nil
}

// ServeHTTP takes a message.
func (s *demoSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m notify.Message
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case s.got <- m:
	default: // nobody looks any more
	}
}

// seal is the age file of notify: in the demo's repo.
func (s *demoSink) seal(reader agefile.Recipient) ([]byte, error) {
	url := "http://" + s.listener.Addr().String() + "/furryhole#a-signing-key"
	return agefile.Seal([]byte(url), []agefile.Recipient{reader}, agefile.SealOptions{})
}

const brokenService = demoService + `health: { http: "http://127.0.0.1:3000/healthz", grace: 0s }
`

// brokenPush has the bot look for its facts where they are not.
func (d *demo) brokenPush(ctx context.Context) error {
	d.step("A push that breaks the bot: the host goes back by itself, and who pushed is told", "git push")
	m := d.hosts[0].machine
	probe := bundle.Probe{HTTP: "http://127.0.0.1:3000/healthz"}
	m.AnswerStatus(probe.Name(), http.StatusServiceUnavailable, "no facts at /etc/within/fcats")
	d.remote.Commit(map[string]string{
		"services/withinbot/withinbot.service": strings.Replace(demoUnit, "/etc/within/facts", "/etc/within/fcats", 1),
		"services/withinbot/service.yaml":      brokenService,
	}, "withinbot: tell when it is well", demoAuthor)
	if err := d.pushed(ctx, true, true); err != nil {
		return err
	}

	unit, err := os.ReadFile(m.Path("/etc/systemd/system/withinbot.service"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(unit), "/etc/within/facts") {
		return errors.New("the unit did not come back")
	}
	d.show(fmt.Sprintf("on chrysalis: the unit of before is back, withinbot.service %s\n\nthe message, as a messenger shows it:", m.Unit("withinbot.service").Active))

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Minute):
		return errors.New("no message came")
	case message := <-d.sink.got:
		d.show(indentRest("  "+message.Title()+"\n"+message.Body(), "  "))
	}

	status, err := d.sink.last(ctx, d.remote.Head())
	if err != nil {
		return err
	}
	d.show(fmt.Sprintf("\nthe status beside the commit, as the forge shows it:\n  %s  %s: %s", status.Context, status.State, status.Description))
	return nil
}

// past shows the runs.
func (d *demo) past(ctx context.Context) error {
	d.step("What was that?", "bellhop history")
	hist, err := d.server.app.history.Runs(ctx, 4)
	if err != nil {
		return err
	}

	var b strings.Builder
	printHistory(&b, d.p, hist, false, time.Now())
	d.show(b.String())
	return nil
}

// stay shows the page until somebody has seen enough.
func (d *demo) stay(ctx context.Context, soFar time.Duration) error {
	token, err := readToken(d.server.adminTokenFile)
	if err != nil {
		return err
	}
	if err := d.edit(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nThat took %s. The fleet is at %s until you press Ctrl-C.\n", took(soFar), d.p.bold(server.AdminPage(d.server.adminAddress, token)))
	<-ctx.Done()
	return nil
}

// edit has somebody change a file on lufta by hand, and bellhop look.
func (d *demo) edit(ctx context.Context) error {
	lufta := d.hosts[len(d.hosts)-1]
	if err := lufta.machine.Plant("/etc/motd", "lufta is looked after by somebody else\n"); err != nil {
		return err
	}
	_, err := d.server.app.deployer.Looker().Drift(ctx, drift.Request{On: lufta.name})
	return err
}
