package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/deploy/plan"
	"bellhop/internal/lab"
	"bellhop/secrets/agefile"
	"bellhop/server"
)

func demoCmd(e *Env) *cobra.Command {
	var withPage bool
	c := &cobra.Command{
		Use: "demo", Short: "Run a demonstration inside this process: a repo, three hosts and a push", GroupID: groupRepo, Args: cobra.NoArgs,
		Long: `Make a config repo with an age secret, three hosts inside this process and a server; push
twice, and show what happens. It takes a few seconds and leaves nothing behind. With --page it stays
until Ctrl-C, so that the fleet can be looked at in a browser.`,
		RunE: func(c *cobra.Command, _ []string) error { return runDemo(e, c.Context(), withPage) },
	}
	c.Flags().BoolVar(&withPage, "page", false, "show the page too, and stay until Ctrl-C")
	return c
}

// A demo is a fleet inside this process. Only the machines are imitated; what runs on them
// and between them is what runs in earnest.
type demo struct {
	e      *Env
	p      paint
	out    io.Writer
	dir    string
	remote *lab.Remote
	hosts  []*demoHost
	server *serving
	sink   *demoSink
	begin  func() // lets the server look: it would not wait for the webhook otherwise
	page   bool   // the admin listener shows it
	n      int    // steps told
}

type demoHost struct {
	name    string
	machine *lab.Machine
	ssh     *lab.Host
	had     int64 // sessions before the push that is shown
}

func runDemo(e *Env, ctx context.Context, withPage bool) (err error) {
	dir, err := os.MkdirTemp("", "bellhop-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{e: e, p: e.outPaint(), out: e.Stdout, dir: dir, page: withPage}
	defer func() { err = errors.Join(err, d.close()) }()
	began := time.Now()
	fmt.Fprintln(d.out, d.p.dim("Imitated: three machines and their systemd. Real: git, age, SSH, the engine, the server, the signed webhook."))
	for _, step := range []func(context.Context) error{d.machines, d.serve, d.config, d.firstPush, d.secondPush, d.readme, d.powerCut, d.brokenPush, d.past} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}

	if d.page {
		return d.stay(ctx, time.Since(began))
	}
	d.close()
	fmt.Fprintf(d.out, "\nThat took %s, and nothing of it is left behind.\nFor your own machines: bellhop serve --repo URL on one of them, then bellhop init in the repo.\n", took(time.Since(began)))
	return nil
}

// step begins a chapter.
func (d *demo) step(title, command string) {
	d.n++
	fmt.Fprintf(d.out, "\n%s %s\n", d.p.cyan(fmt.Sprintf("%d.", d.n)), d.p.bold(title))
	if command != "" {
		fmt.Fprintf(d.out, "%s\n", d.p.dim("   $ "+command))
	}
}

// show prints text a little to the right.
func (d *demo) show(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if line != "" {
			line = "   " + line
		}
		fmt.Fprintln(d.out, line)
	}
}

func (d *demo) close() error {
	var err error
	if d.server != nil {
		d.begin()
		err = d.server.stop()
		d.server = nil
	}

	for _, h := range d.hosts {
		err = errors.Join(err, h.ssh.Close())
	}
	d.hosts = nil

	if d.sink != nil {
		err = errors.Join(err, d.sink.listener.Close())
		d.sink = nil
	}
	return err
}

var demoNames = []string{"chrysalis", "kos-mos", "lufta"}

// machines makes three hosts, each with an SSH server on the loopback.
func (d *demo) machines(context.Context) error {
	for _, name := range demoNames {
		m := lab.NewMachine(filepath.Join(d.dir, name))
		if err := m.Plant("/etc/motd", "welcome\n"); err != nil {
			return err
		}
		s, err := lab.NewHost(name, m)
		if err != nil {
			return err
		}
		d.hosts = append(d.hosts, &demoHost{name: name, machine: m, ssh: s})
	}
	d.remote = lab.NewRemote(filepath.Join(d.dir, "config.git"))
	var err error
	d.sink, err = newDemoSink()
	return err
}

// serve starts the real server on an empty state directory.
func (d *demo) serve(ctx context.Context) error {
	d.step("A server starts on an empty directory, and makes what is its own", "bellhop serve --repo "+filepath.Base(d.remote.URL()))
	admin := "off"
	if d.page {
		admin = "127.0.0.1:0"
	}
	o := serveOptions{listen: "127.0.0.1:0", admin: admin, gap: 50 * time.Millisecond}
	o.deployerFlags = deployerFlags{stateDir: filepath.Join(d.dir, "state"), repo: d.remote.URL(), branch: "main", path: ".", rewritten: "follow"}
	var err error
	if o.forge, err = d.sink.forge(d.dir); err != nil {
		return err
	}
	o.webhookRepo = demoRepo
	hold := make(chan struct{})
	o.hold, d.begin = hold, sync.OnceFunc(func() { close(hold) })
	s, err := o.start(ctx, d.e, quietLog())
	if err != nil {
		return err
	}

	d.server = s
	signer := s.app.signer
	for _, h := range d.hosts {
		h.ssh.Allow(signer.PublicKey()) // what bellhop host add does
	}

	reader := agefile.PublicOf(s.app.state.identity)
	d.show(fmt.Sprintf("reader      %s\ndeploy key  %s\nwebhook     http://%s/v1/webhook, signed with a secret of its own",
		reader, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), s.address))
	return nil
}

// config commits a fleet with three services and one secret.
func (d *demo) config(context.Context) error {
	d.step("A config repo: services as folders, a secret in the same commit", "git ls-files")
	reader, err := agefile.ParseRecipient(agefile.PublicOf(d.server.app.state.identity))
	if err != nil {
		return err
	}

	token, err := agefile.Seal([]byte("DISCORD_TOKEN=the-crystal-heart\n"), []agefile.Recipient{reader}, agefile.SealOptions{})
	if err != nil {
		return err
	}

	told, err := d.sink.seal(reader)
	if err != nil {
		return err
	}

	files := map[string]string{
		"bellhop.yaml":                              d.fleetFile(reader.String()),
		"README.md":                                 "# hexagone\n",
		"services/withinbot/service.yaml":           demoService,
		"services/withinbot/withinbot.service":      demoUnit,
		"services/withinbot/files/etc/within/facts": "Printers smell fear.\nPC LOAD LETTER was a cry for help.\n",
		"services/motd/files/etc/motd.tmpl":         "{{ .Host }} is looked after by bellhop\n",
		"services/backup/backup.service":            "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n",
		"services/backup/backup.timer":              "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
		"secrets/withinbot.env.age":                 string(token),
		"secrets/notify/furryhole.age":              string(told),
	}
	d.remote.Commit(files, "withinbot on chrysalis, a greeting everywhere", demoAuthor)
	d.show(`bellhop.yaml                             three hosts, who runs what
services/withinbot/withinbot.service     a unit, as systemd reads it
services/withinbot/service.yaml          its user and its key
services/withinbot/files/etc/within/…    lands at the same path
services/motd/…  services/backup/…       a greeting, a timer
secrets/withinbot.env.age                sealed for the deployer
secrets/notify/furryhole.age             where messages go to, sealed too`)
	return nil
}

const demoAuthor = "Cadence <cadence@example.com>"

func (d *demo) fleetFile(reader string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "network: hexagone\nreaders:\n  deployer: %s\nall:\n  services: { motd: true }\nnotify:\n  furryhole: { source: secrets/notify/furryhole.age }\nhosts:\n", reader)
	for _, h := range d.hosts {
		fmt.Fprintf(&b, "  %s:\n    address: %s\n    host_key: %s\n", h.name, h.ssh.Address(), h.ssh.HostKey())
		switch h.name {
		case "chrysalis":
			b.WriteString("    services: { withinbot: true }\n")
		case "lufta":
			b.WriteString("    services: { backup: true }\n")
		}
	}

	return b.String()
}

const demoService = `description: the furryhole chatbot
user: { name: withinbot, group: within, home: /srv/within/withinbot }
keys:
  withinbot: { source: secrets/withinbot.env.age, user: withinbot, group: within, permissions: "0640" }
`

const demoUnit = `[Unit]
Description=the furryhole chatbot

[Service]
User=withinbot
Group=within
EnvironmentFile=/run/keys/withinbot
ExecStart=/usr/bin/withinbot --facts /etc/within/facts
Restart=on-failure

[Install]
WantedBy=multi-user.target
`

func (d *demo) firstPush(ctx context.Context) error {
	d.step("What would change", "bellhop plan")
	if err := d.plan(ctx, true); err != nil {
		return err
	}

	d.step("The first push: a delivery, signed as GitHub signs it, rings the server", "git push")
	if err := d.push(ctx, false); err != nil {
		return err
	}

	d.step("What is deployed on each host", "bellhop status")
	if err := d.status(ctx); err != nil {
		return err
	}

	return d.onChrysalis()
}

// plan shows what the server would do; brief leaves out what new files say.
func (d *demo) plan(ctx context.Context, brief bool) error {
	p, err := d.server.app.deployer.Plan(ctx, plan.Request{})
	if err != nil {
		return err
	}

	var b strings.Builder
	if err := d.server.app.deployer.WritePlan(ctx, &b, p); err != nil {
		return err
	}

	w := &diffPaint{w: &indented{w: d.out}, p: d.p}
	for line := range strings.Lines(b.String()) {
		if brief && (strings.HasPrefix(line, "    ") || line == "\n") {
			continue
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}

	return nil
}

// push delivers a signed webhook and follows the run that it rang for. Sessions are told from
// the second on: after the first, a line to chrysalis is opened for good, for its keys.
func (d *demo) push(ctx context.Context, sessions bool) error { return d.pushed(ctx, sessions, false) }

// pushed is push for a run that is to fail, or not.
func (d *demo) pushed(ctx context.Context, sessions, fails bool) error {
	for _, h := range d.hosts {
		h.had = h.ssh.Counts().Sessions
	}

	began := time.Now()
	answer, err := deliver(ctx, d.server.address, d.server.secret, server.Push{Ref: "refs/heads/main", After: d.remote.Head(), Repo: demoRepo}, "")
	if err != nil {
		return err
	}

	d.begin()
	d.show(d.p.dim(fmt.Sprintf("POST /v1/webhook, X-Hub-Signature-256 → %d, run %s", answer.status, answer.Run)))
	g := &progress{w: d.out, p: d.p, live: isTerminal(d.out) && d.e.Getenv("TERM") != "dumb", indent: "   ", only: true}
	run, err := d.server.bell.Follow(ctx, answer.Run, g.event)
	if err != nil {
		return err
	}
	if o := or(run.Outcome, ""); isFailure(o) != fails {
		return fmt.Errorf("the run ended as %s: %s", o, run.Error)
	}

	line := "webhook to done: " + took(time.Since(began))
	if sessions {
		line += "; SSH sessions: " + d.sessions()
	}

	d.show(d.p.dim(line))
	return nil
}

// sessions counts those of this push.
func (d *demo) sessions() string {
	var counts []string
	for _, h := range d.hosts {
		counts = append(counts, fmt.Sprintf("%s %d", h.name, h.ssh.Counts().Sessions-h.had))
	}
	return strings.Join(counts, ", ")
}

func (d *demo) status(ctx context.Context) error {
	s, err := d.server.app.history.Status(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	printStatus(&b, d.p, s, true, time.Now())
	d.show(b.String())
	return nil
}

// onChrysalis shows the machine itself.
func (d *demo) onChrysalis() error {
	m := d.hosts[0].machine
	fi, err := os.Stat(m.Path("/run/keys/withinbot"))
	if err != nil {
		return err
	}

	user, group, err := m.Owner("/run/keys/withinbot")
	if err != nil {
		return err
	}

	motd, err := os.ReadFile(m.Path("/etc/motd"))
	if err != nil {
		return err
	}

	d.show(fmt.Sprintf("\non chrysalis\n  /etc/motd            %s\n  /run/keys/withinbot  %04o %s:%s, in RAM alone\n  withinbot.service    %s, gated by withinbot-key.service",
		strings.TrimSpace(string(motd)), fi.Mode().Perm(), user, group, m.Unit("withinbot.service").Active))
	return nil
}

// secondPush changes one line of one service.
func (d *demo) secondPush(ctx context.Context) error {
	d.step("One line of one service changes", "bellhop plan")
	d.remote.Commit(map[string]string{
		"services/withinbot/files/etc/within/facts": "Printers smell fear.\nPC LOAD LETTER is a way of life.\n",
	}, "withinbot: a better fact", demoAuthor)
	if err := d.plan(ctx, false); err != nil {
		return err
	}

	d.step("The second push: one host is touched, one unit restarts, once", "git push")
	m := d.hosts[0].machine
	had := m.Starts("withinbot.service")
	if err := d.push(ctx, true); err != nil {
		return err
	}

	d.show(fmt.Sprintf("withinbot.service restarted %s; the key stayed where it was", times(m.Starts("withinbot.service")-had)))
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// readme changes nothing that any host holds.
func (d *demo) readme(ctx context.Context) error {
	d.step("A README changes: nobody is bothered", "git push")
	d.remote.Commit(map[string]string{"services/withinbot/README.md": "The bot.\n"}, "say what withinbot is", demoAuthor)
	return d.push(ctx, true)
}

// powerCut pulls chrysalis' plug. Its keys were in RAM.
func (d *demo) powerCut(ctx context.Context) error {
	d.step("The plug of chrysalis is pulled: its keys come back by themselves", "")
	h := d.hosts[0]
	began := time.Now()
	h.ssh.Cut()
	if err := h.machine.Reboot(); err != nil {
		return err
	}

	d.show(fmt.Sprintf("booted without keys: withinbot.service %s", h.machine.Unit("withinbot.service").Active))
	if err := h.ssh.Mend(); err != nil {
		return err
	}

	for !h.machine.Active("withinbot.service") {
		if time.Since(began) > 5*time.Minute {
			return errors.New("the keys did not come back")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}

	d.show(fmt.Sprintf("%s later: keys pushed, withinbot.service %s", took(time.Since(began)), h.machine.Unit("withinbot.service").Active))
	return nil
}
