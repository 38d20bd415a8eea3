//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const withinbotUnit = `[Unit]
Description=the furryhole chatbot
[Service]
User=withinbot
Group=within
WorkingDirectory=/srv/within/withinbot
EnvironmentFile=/run/keys/withinbot
Environment=CAMPAIGN_FOLDER=/opt/bellhop/withinbot/campaigns
Environment=PORT=3999
ExecStart=/opt/bellhop/withinbot/bin/withinbot
ExecStop=+/bin/sh -c 'echo stopped >>/var/log/withinbot-stopped'
Restart=on-failure
RestartSec=30s
[Install]
WantedBy=multi-user.target
`

const withinbotService = `description: the furryhole chatbot
user: { name: withinbot, group: within, home: /srv/within/withinbot }
package:
  file: withinbot.tar.gz
keys:
  withinbot: { source: secrets/withinbot.env.age, user: withinbot, group: within, permissions: "0640" }
`

// idleUnit is a second service, on every host, that nothing but its own change may touch.
const idleUnit = `[Unit]
Description=sits there
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
`

// writeRepo is the config repo of the story, on top of what init and host add wrote.
func (w *world) writeRepo() {
	w.t.Helper()
	w.writeServices()
	w.enable("chrysalis", "withinbot: true", "idle: true")
	w.enable("lufta", "idle: true")
	w.enable("kos-mos", "idle: true")
}

// writeServices are its services, without the hosts.
func (w *world) writeServices() {
	w.t.Helper()
	tar, err := os.ReadFile(botTar)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(map[string]string{
		"README.md":                                  "our machines\n",
		"services/withinbot/withinbot.service":       withinbotUnit,
		"services/withinbot/service.yaml":            withinbotService,
		"services/withinbot/withinbot.tar.gz":        string(tar),
		"services/withinbot/README.md":               "the bot\n",
		"services/withinbot/files/etc/within/a.conf": "line one\nline two\n",
		"services/idle/idle.service":                 idleUnit,
		"services/idle/files/etc/motd":               "idle was here\n",
	})
	w.secret("withinbot.env", "TOKEN=hunter2\n")
}

// enable sets the services of a host in bellhop.yaml, where `host add` left none.
func (w *world) enable(host string, lines ...string) {
	w.t.Helper()
	y := strings.Split(w.read("bellhop.yaml"), "\n")
	var out []string
	in, skip := false, false
	for _, l := range y {
		switch {
		case strings.HasPrefix(l, "  "+host+":"):
			in = true
			out = append(out, l, "    services:")
			for _, s := range lines {
				out = append(out, "      "+s)
			}
			if len(lines) == 0 {
				out[len(out)-1] = "    services: {}"
			}
			continue
		case in && strings.HasPrefix(l, "    services:"):
			skip = true
			continue
		case skip && strings.HasPrefix(l, "      "):
			continue
		case len(l) > 2 && l[2] != ' ', !strings.HasPrefix(l, " ") && l != "":
			in = false
		}
		skip = false
		out = append(out, l)
	}
	w.write(map[string]string{"bellhop.yaml": strings.Join(out, "\n")})
}

// secret seals value as secrets/NAME.age.
func (w *world) secret(name, value string) {
	w.t.Helper()
	if out, code := w.tryIn(strings.NewReader(value), "secret", "set", name); code != 0 {
		w.t.Fatalf("secret set %s: exit %d\n%s", name, code, out)
	}
}

// A told is `bellhop history --json`, as its contract has it.
type told struct {
	V    int `json:"v"`
	Runs []struct {
		ID, Commit, Author, Subject, Cause, Outcome string
		StartedAt                                   time.Time `json:"started_at"`
		FinishedAt                                  time.Time `json:"finished_at"`
		Hosts                                       []struct {
			Name, Outcome string
			Changed       []string
			TookMS        int64 `json:"took_ms"`
			Error         *string
		}
	}
}

func (w *world) history() (h told) {
	w.t.Helper()
	out := w.bellhop("history", "--json", "--limit", "100")
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		w.t.Fatalf("history --json: %v\n%s", err, out)
	}
	return h
}

// holdings lists what a host has where services put things: kinds, modes, owners, digests.
func holdings(t testing.TB, host string) string {
	t.Helper()
	return on(t, host, `cd /; sed 's/^/user /' etc/passwd; sed 's/^/group /' etc/group
		find etc opt run usr/local -path 'run/*' ! -path 'run/keys*' -prune -o -printf '%p %y %m %u:%g %l\n' -type f \
			! -name 'passwd*' ! -name 'shadow*' ! -name 'group*' ! -name 'gshadow*' -exec sha256sum {} \; | sort`)
}

func TestStory(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	for _, h := range hosts {
		on(t, h, "echo welcome >/etc/motd && mkdir -p /etc/within && echo mine >/etc/within/other")
	}

	bare := holdings(t, "host1")

	// 1 and 2: the first push; the bot runs, with its key. It takes 1 to 3 s here.
	began := time.Now()
	w.push("the first day")
	took := time.Since(began).Round(time.Millisecond)
	t.Logf("first push stood everywhere after %s", took)
	if most := ofThisMachine(t, "host1", 20*time.Second); took > most {
		t.Errorf("first push stood everywhere after %s, want less than %s", took, most)
	}
	if out := w.bellhop("ssh", "chrysalis", "--", "systemctl", "status", "withinbot"); !strings.Contains(out, "active (running)") {
		t.Fatalf("systemctl status withinbot:\n%s", out)
	}
	proof := fmt.Sprintf("token %x", sha256.Sum256([]byte("hunter2")))
	eventually(t, 10*time.Second, "the bot's log has its token's digest and a fact", func() bool {
		log := on(t, "host1", "journalctl -q -o cat -u withinbot")
		return strings.Contains(log, proof) && strings.Contains(log, "printer fact:")
	})
	if got := on(t, "host1", "stat -c '%a %U:%G' /run/keys/withinbot; stat -f -c %T /run/keys; stat -c '%a %U:%G' /run/keys /srv/within/withinbot; systemctl is-active withinbot-key.service"); got !=
		"640 withinbot:within\nramfs\n750 root:keys\n750 withinbot:within\nactive" {
		t.Fatalf("the key, its place and its unit:\n%s", got)
	}

	var oneLine string // its commit
	t.Run("3 one line", func(t *testing.T) {
		before := map[string]int{}
		for _, h := range hosts {
			before[h] = sessions(t, h)
		}
		bot, idle := starts(t, "host1", "withinbot.service"), starts(t, "host1", "idle.service")
		w.edit("services/withinbot/files/etc/within/a.conf", "line two", "line 2")
		oneLine = w.push("one line")
		for name, h := range hosts {
			want := 0
			if name == "chrysalis" {
				want = 2 // the deploy, and its confirmation over a fresh connection
			}
			if got := sessions(t, h) - before[h]; got != want {
				t.Errorf("%s: %d sessions, want %d", name, got, want)
			}
		}
		if got := on(t, "host1", "cat /etc/within/a.conf"); got != "line one\nline 2" {
			t.Errorf("a.conf is %q", got)
		}
		if got := starts(t, "host1", "withinbot.service") - bot; got != 1 {
			t.Errorf("withinbot was started %d times, want once", got)
		}
		if got := starts(t, "host1", "idle.service") - idle; got != 0 {
			t.Errorf("idle was started %d times, want none", got)
		}
	})

	t.Run("4 a README", func(t *testing.T) {
		before := map[string]int{}
		for _, h := range hosts {
			before[h] = sessions(t, h)
		}
		w.write(map[string]string{"README.md": "our machines, again\n"})
		w.push("README at the root")
		w.write(map[string]string{"services/withinbot/README.md": "the bot, again\n"})
		w.push("README of a service")
		for name, h := range hosts {
			if got := sessions(t, h) - before[h]; got != 0 {
				t.Errorf("%s: %d sessions for a README, want none", name, got)
			}
		}
	})

	t.Run("plan reads well", func(t *testing.T) {
		w.edit("services/idle/files/etc/motd", "idle was here", "idle is here")
		w.commit("motd")
		out, code := w.try("plan", "--exit-code")
		if code != 2 {
			t.Errorf("plan --exit-code: %d, want 2", code)
		}
		for _, want := range []string{"-idle was here", "+idle is here", "3 of 3 hosts change, 3 units restart"} {
			if !strings.Contains(out, want) {
				t.Errorf("plan lacks %q:\n%s", want, out)
			}
		}
		w.bellhop("deploy")
		if got := on(t, "host2", "cat /etc/motd"); got != "idle is here" {
			t.Errorf("motd is %q after deploy", got)
		}
		if out, code := w.try("plan", "--exit-code"); code != 0 {
			t.Errorf("plan --exit-code after deploy: %d, want 0\n%s", code, out)
		}
	})

	t.Run("6 a renamed unit that holds a port", func(t *testing.T) {
		w.sh(w.work, "git mv services/withinbot/withinbot.service services/withinbot/bot.service")
		w.push("rename the unit")
		eventually(t, 10*time.Second, "bot.service is active", func() bool {
			out, _ := tryOn("host1", "systemctl is-active bot.service")
			return out == "active"
		})
		if out, _ := tryOn("host1", "systemctl is-active withinbot.service; ls /etc/systemd/system/withinbot.service"); !strings.Contains(out, "inactive") {
			t.Errorf("the old unit: %s", out)
		}
		// it has the port, and did not have to try twice for it
		if got := on(t, "host1", `bash -c 'exec 3<>/dev/tcp/127.0.0.1/3999' && [ "$(ss -Hltnp sport = :3999 | grep -o 'pid=[0-9]*')" = "pid=$(systemctl show -P MainPID bot)" ] && echo its own
			systemctl show -P NRestarts bot`); got != "its own\n0" {
			t.Errorf("the port of the renamed unit, and its restarts: %q", got)
		}
		w.sh(w.work, "git mv services/withinbot/bot.service services/withinbot/withinbot.service")
		w.push("and back")
	})

	t.Run("5 switched off", func(t *testing.T) {
		idle := on(t, "host1", "systemctl show -p NRestarts -p MainPID -p ActiveEnterTimestampMonotonic idle")
		on(t, "host1", "rm -f /var/log/withinbot-stopped; touch /srv/within/withinbot/diary")
		w.enable("chrysalis", "idle: true")
		c := w.push("withinbot off")
		got := on(t, "host1", `for p in /etc/systemd/system/withinbot.service /etc/systemd/system/withinbot.service.d /etc/systemd/system/withinbot-key.service /etc/within/a.conf /run/keys/withinbot /opt/bellhop/withinbot /etc/sysusers.d/bellhop-withinbot.conf; do
			[ -e $p ] || [ -L $p ] && echo $p stands; done
			id -u withinbot >/dev/null && echo account; ls /srv/within/withinbot; cat /var/log/withinbot-stopped /etc/within/other; systemctl is-active withinbot; systemctl is-active idle; true`)
		if want := "account\ndiary\nstopped\nmine\ninactive\nactive"; got != want {
			t.Errorf("after switching off:\n%s\nwant:\n%s", got, want)
		}
		if now := on(t, "host1", "systemctl show -p NRestarts -p MainPID -p ActiveEnterTimestampMonotonic idle"); now != idle {
			t.Errorf("idle, which stays, went from %s to %s", idle, now)
		}
		if out := w.bellhop("history"); !strings.Contains(out, "withinbot off") || !strings.Contains(out, "note: chrysalis: stays on the host: user withinbot, home /srv/within/withinbot\n") {
			t.Errorf("history of %s does not say what stays:\n%s", c, out)
		}
		w.enable("chrysalis")
		w.push("all off on chrysalis")
		if left := slices.DeleteFunc(differing(bare, holdings(t, "host1")), func(l string) bool { return stays.MatchString(l) }); len(left) > 0 {
			t.Errorf("with nothing switched on, the host differs from what it was before bellhop:\n%s", strings.Join(left, "\n"))
		}
		w.enable("lufta")
		w.push("idle off on lufta")
		if got := on(t, "host2", "cat /etc/motd"); got != "welcome" {
			t.Errorf("motd is %q, want what stood there before: welcome", got)
		}
		w.enable("lufta", "idle: true")
		w.enable("chrysalis", "withinbot: true", "idle: true")
		w.push("all on again")
	})

	t.Run("7 what stands is read", func(t *testing.T) {
		on(t, "host1", "rm -rf /var/lib/bellhop")
		w.edit("services/withinbot/files/etc/within/a.conf", "line 2", "line two")
		w.push("after a lost state directory")
		if got := on(t, "host1", "cat /etc/within/a.conf; systemctl is-active withinbot"); got != "line one\nline two\nactive" {
			t.Errorf("after a lost state directory: %q", got)
		}
		saved := filepath.Join(t.TempDir(), "ssh.tar")
		w.sh("", "tar -C "+rigDir()+"/host3/root -cf "+saved+" etc/ssh root/.ssh")
		rig(t, "plug", "host3")
		rig(t, "wipe", "host3")
		w.sh("", "tar -C "+rigDir()+"/host3/root -xf "+saved)
		rig(t, "reboot", "host3")
		w.bellhop("deploy", "--all")
		if got := on(t, "host3", "cat /etc/motd; systemctl is-active idle"); got != "idle is here\nactive" {
			t.Errorf("a reinstalled host holds %q", got)
		}
	})

	t.Run("8 history", func(t *testing.T) {
		var found bool
		for _, r := range w.history().Runs {
			if r.Subject != "one line" {
				continue
			}
			found = true
			if r.Author == "" || r.Cause == "" || r.Outcome != "done" || len(r.Hosts) != 1 || r.Hosts[0].Name != "chrysalis" || r.Hosts[0].TookMS <= 0 ||
				!strings.Contains(strings.Join(r.Hosts[0].Changed, " "), "/etc/within/a.conf") {
				t.Errorf("the run of 'one line' is told as %+v", r)
			}
		}
		if !found {
			t.Errorf("history has no run for 'one line':\n%s", w.bellhop("history", "--json"))
		}
		// as a person reads it
		out := w.bellhop("history", "--limit", "100")
		if want := regexp.MustCompile(`(?m)^\d{8}-\d{6}-[0-9a-f]+  done  push, .* ago, took .*s\n  ` + oneLine[:7] + `\S* one line — cadey.*\n  chrysalis +done .*/etc/within/a\.conf`); !want.MatchString(out) {
			t.Errorf("history does not match %s:\n%s", want, out)
		}
		out = w.bellhop("status")
		for _, want := range []string{`^\S+ main [0-9a-f]{7,}: .*3`, `HOST +STATE +COMMIT +DEPLOYED +KEYS`, `^chrysalis +current +[0-9a-f]{7,} +.*1/1`, `^kos-mos +current +[0-9a-f]{7,} `, `^lufta +current +[0-9a-f]{7,} `} {
			if !regexp.MustCompile("(?m)" + want).MatchString(out) {
				t.Errorf("status does not match %s:\n%s", want, out)
			}
		}
	})
}

// stays is what differs on a host once all services are off: the account, which may own things; the
// helper; the packages of former generations; and the empty place of keys.
var stays = regexp.MustCompile(`^\+ (user withinbot:|group (withinbot|within|keys):|run/keys d 750 root:keys $|` +
	`(.*  )?(usr/local/libexec|opt/bellhop)( d|/bellhop d|/bellhop/current l|/bellhop/[0-9a-f]{64}( f|$)|/\.store d|/\.store/[0-9a-f]{64}[ /]))`)

// differing lists the lines that only one of two texts has.
func differing(old, new string) (lines []string) {
	a, b := strings.Split(old, "\n"), strings.Split(new, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			lines = append(lines, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			lines = append(lines, "+ "+l)
		}
	}
	return lines
}

// Two deployers: another one pushed in between; the next contact notices and repairs.
func TestSecondDeployer(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	w.push("first")

	other := newDeployer(t)
	other.bellhop("init")
	other.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	other.edit("bellhop.yaml", "network:", "# another deployer\nnetwork:")
	other.write(map[string]string{
		"services/idle/idle.service":   idleUnit,
		"services/idle/files/etc/motd": "the other was here\n",
	})
	other.enable("chrysalis", "idle: true")
	y := w.read("bellhop.yaml")
	network := strings.TrimSpace(strings.SplitN(y[strings.Index(y, "network:")+len("network:"):], "\n", 2)[0])
	lines := strings.Split(other.read("bellhop.yaml"), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "network:") {
			lines[i] = "network: " + network
		}
	}
	other.write(map[string]string{"bellhop.yaml": strings.Join(lines, "\n")})
	other.commit("mine")
	if out, code := other.try("deploy"); code == 0 || !strings.Contains(out, "take-over") {
		t.Errorf("a second deployer was let in without --take-over: exit %d\n%s", code, out)
	}
	if out, code := other.try("deploy", "--take-over", "--allow-prune"); code != 0 {
		t.Fatalf("deploy --take-over: exit %d\n%s", code, out)
	}
	if got := on(t, "host1", "cat /etc/motd"); got != "the other was here" {
		t.Fatalf("motd is %q after the take-over", got)
	}

	w.edit("services/withinbot/files/etc/within/a.conf", "line one", "line 1")
	w.push("the first deployer again")
	if got := on(t, "host1", "cat /etc/motd /etc/within/a.conf; systemctl is-active withinbot"); got != "idle was here\nline 1\nline two\nactive" {
		t.Errorf("after the first deployer's next push: %q", got)
	}
}

// A unit that cannot start takes the host back to the generation before it.
func TestBadCommit(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	w.push("good")
	w.write(map[string]string{"services/idle/idle.service": strings.Replace(idleUnit, "/bin/sleep infinity", "/bin/does-not-exist", 1),
		"services/idle/files/etc/motd": "worse\n"})
	c := w.commit("bad")
	if code := w.deliver(c); code != http.StatusAccepted {
		t.Fatalf("webhook: %d", code)
	}
	for name := range hosts {
		w.waitState(c, name, "rolled-back")
	}
	told := 0
	for _, h := range w.history().Runs[0].Hosts {
		if h.Outcome == "rolled-back" && h.Error != nil && strings.Contains(*h.Error, "idle.service") {
			told++
		}
	}
	if text := w.bellhop("history"); told != len(hosts) || strings.Count(text, "idle.service") < len(hosts) {
		t.Errorf("history tells why of %d hosts, want %d:\n%s", told, len(hosts), text)
	}
	for _, h := range hosts {
		if got := on(t, h, "cat /etc/motd; systemctl is-active idle"); got != "idle was here\nactive" {
			t.Errorf("%s after a bad commit: %q", h, got)
		}
	}
	// the same bundle is not tried again by a push that leaves it alone
	before := sessions(t, "host2")
	w.write(map[string]string{"README.md": "no change\n"})
	c = w.commit("readme")
	w.deliver(c)
	w.waitState(c, "lufta", "rolled-back")
	if got := sessions(t, "host2") - before; got != 0 {
		t.Errorf("a bad bundle was tried again: %d sessions", got)
	}
	w.write(map[string]string{"services/idle/idle.service": idleUnit, "services/idle/files/etc/motd": "better\n"})
	w.push("mended")
	if got := on(t, "host3", "cat /etc/motd"); got != "better" {
		t.Errorf("motd after the mend: %q", got)
	}
}

// kill -9 of the deployer, of the helper and a pulled plug in the middle of a push.
func TestCutOff(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	w.write(map[string]string{"bellhop.yaml": w.read("bellhop.yaml") + "\nconfirm: 0s\n"}) // what happens without a deployer is told here
	w.push("good")
	// it starts once it may, and after a while where nobody says so
	slow := strings.Replace(idleUnit, "ExecStart=", "ExecStartPre=/bin/sh -c 'for i in $$(seq 200); do [ ! -e /run/go ] || exit 0; sleep 0.1; done'\nExecStart=", 1)
	may := func(start bool) {
		for _, h := range hosts {
			on(t, h, map[bool]string{true: "touch /run/go", false: "rm -f /run/go"}[start])
		}
	}

	t.Run("deployer told to end", func(t *testing.T) {
		// the new version starts once a file is there, so the hosts are at work for as long as we like
		w.write(map[string]string{"services/idle/idle.service": strings.Replace(idleUnit, "ExecStart=", "ExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\nExecStart=", 1),
			"services/idle/files/etc/motd": "told to end\n"})
		c := w.commit("waits for a file")
		w.deliver(c)
		eventually(t, 20*time.Second, "the unit waits on all hosts", func() bool {
			n := 0
			for _, h := range hosts {
				if out, _ := tryOn(h, "systemctl is-active idle.service"); out == "activating" {
					n++
				}
			}
			return n == len(hosts)
		})
		cmd, began := w.serve, time.Now()
		w.stop()
		if took := time.Since(began); took > 30*time.Second || cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("serve ended after %s with %s, want at once with 0", took, cmd.ProcessState)
		}
		for _, h := range hosts {
			if got, _ := tryOn(h, "systemctl is-active idle.service bellhop-apply.service; touch /run/go"); got != "activating\nactive" && got != "activating\nactivating" {
				t.Errorf("%s does not go on without a deployer: %q", h, got)
			}
			eventually(t, 20*time.Second, h+" gets there without a deployer", func() bool {
				out, _ := tryOn(h, "cat /etc/motd; systemctl is-active idle.service bellhop-apply.service; ls /var/lib/bellhop/journal 2>/dev/null")
				return out == "told to end\nactive\ninactive"
			})
		}
		before := starts(t, "host2", "idle.service")
		w.start()
		w.waitCurrent(c)
		if got := starts(t, "host2", "idle.service") - before; got != 0 {
			t.Errorf("what was done is done again: %d starts", got)
		}
		done := 0
		for _, r := range w.history().Runs {
			for _, h := range r.Hosts {
				if r.Subject == "waits for a file" && h.Outcome == "done" && strings.Contains(strings.Join(h.Changed, " "), "/etc/motd") {
					done++
				}
			}
		}
		if done != len(hosts) {
			t.Errorf("history has the result of %d hosts, want %d:\n%s", done, len(hosts), w.bellhop("history", "--json"))
		}
	})
	t.Run("deployer killed", func(t *testing.T) {
		w.write(map[string]string{"services/idle/idle.service": slow})
		may(false)
		c := w.commit("slow start")
		w.deliver(c)
		eventually(t, 20*time.Second, "the apply unit runs on host2", func() bool {
			out, _ := tryOn("host2", "systemctl is-active bellhop-apply.service")
			return out == "active" || out == "activating"
		})
		w.kill()
		may(true)
		w.start()
		w.waitCurrent(c)
	})
	t.Run("helper killed", func(t *testing.T) {
		may(false)
		w.write(map[string]string{"services/idle/files/etc/motd": "killed\n"})
		c := w.commit("killed helper")
		w.deliver(c)
		eventually(t, 20*time.Second, "the apply unit runs on host2", func() bool {
			out, _ := tryOn("host2", "systemctl kill -s KILL bellhop-apply.service && echo hit")
			return strings.Contains(out, "hit")
		})
		may(true)
		eventually(t, 60*time.Second, "host2 is settled", func() bool {
			out, _ := tryOn("host2", "test ! -e /var/lib/bellhop/journal && systemctl is-active idle && cat /etc/motd")
			return out == "active\nidle was here" || out == "active\nkilled"
		})
		if out, code := w.try("deploy", "--retry"); code != 0 {
			t.Errorf("deploy --retry: exit %d\n%s", code, out)
		}
		w.waitCurrent(c)
	})
	t.Run("plug pulled", func(t *testing.T) {
		may(false)
		w.write(map[string]string{"services/idle/files/etc/motd": "plugged\n"})
		c := w.commit("pulled plug")
		w.deliver(c)
		eventually(t, 20*time.Second, "the apply unit runs on host3", func() bool {
			out, _ := tryOn("host3", "systemctl is-active bellhop-apply.service")
			return out == "active" || out == "activating"
		})
		rig(t, "plug", "host3")
		rig(t, "power", "host3")
		rig(t, "wait", "host3")
		may(true)
		eventually(t, 20*time.Second, "host3 is settled, old or new", func() bool {
			out, _ := tryOn("host3", "test ! -e /var/lib/bellhop/journal && systemctl is-active idle && cat /etc/motd")
			return out == "active\nkilled" || out == "active\nplugged"
		})
		if out, code := w.try("deploy", "--retry", "--all"); code != 0 {
			t.Errorf("deploy --retry --all: exit %d\n%s", code, out)
		}
		w.waitCurrent(c)
		if got := on(t, "host3", "cat /etc/motd"); got != "plugged" {
			t.Errorf("motd on host3: %q", got)
		}
	})
	t.Run("network cut", func(t *testing.T) {
		rig(t, "cut", "host2")
		defer rig(t, "mend", "host2")
		w.write(map[string]string{"services/idle/files/etc/motd": "cut\n"})
		c := w.commit("one host away")
		w.deliver(c)
		w.waitState(c, "chrysalis", "current")
		w.waitState(c, "lufta", "pending")
		rig(t, "mend", "host2")
		w.waitCurrent(c)
		if got := on(t, "host2", "cat /etc/motd"); got != "cut" {
			t.Errorf("motd on host2 after the mend: %q", got)
		}
	})
}
