package unitfile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bellhop/internal/unitfile"
)

// candidates are values of every sort; each is tried with each key.
var candidates = []string{
	"yes", "no", "on", "off", "true", "maybe", "0", "1", "-1", "7", "8", "20", "-20", "100", "1000", "1001", "10000", "10001", "65535", "65536", "4294967296", "0x10", "010", "+5",
	"0640", "0999", "07777", "10000000", "5s", "5 s", "1min 30s", "1h30m", "infinity", "infinity:infinity", "1.5s", ".5s", "5.", "5 parsecs", "5ss", "soon",
	"512M", "1.5G", "2G 1M", "50%", "50.55%", "50.555%", "150%", "0%", "%", "512MB", "512m", "1024:2048", "2:1", "5:infinity", "+5:19", "1s:2s",
	"SIGTERM", "TERM", "SIGFOO", "RTMIN+3", "SIGRTMAX-2", "sigterm", "15", "99", "none", "idle", "auto", "kill", "null", "tty", "journal", "file:/x", "file:x", "append:/x", "fd:x", "inherit",
	"simple", "exec", "notify-reload", "Simple", "onesht", "always", "sometimes", "on-failure", "control-group", "mixed", "full", "strict", "read-only", "tmpfs", "private", "shared", "invisible", "pid", "all", "main",
	"continue", "stop", "terminate", "abort", "reboot", "exit-force", "soft-reboot", "fail", "replace", "isolate", "restart", "other", "rr", "fifo", "best-effort", "emerg", "warning", "warn", "daemon", "local0", "both", "default", "ipv6-only", "us", "usec", "µs", "nsec", "ns", "sctp", "udplite", "lowdelay", "low-delay", "bind",
	"disconnected", "self", "identity", "inactive", "inactive-or-failed", "normal", "direct", "omit", "avoid", "skip", "init", "login", "user", "closed", "tty-fail", "data", "socket", "fd", "kmsg+console", "syslog",
	"x.service", "x.socket", "x.slice", "x.target y.service", "x", "multi-user", "@.service", "a@.service", "a@b@c.service", "x.servce", `a\x2db.service`, "ä.service", "'x.service'", "'x.service", "a/b.service", "/a.service",
	"/x", "x/y", "./x", "-/x", "+/x", "-+/x", "+-/x", "~", "-~", "-x", "/x/", "/x /y", "/x y", "/a/../b", "../x", "x/../y", ".", "..", "x:y", "/x:/y", "a b", "x y:z",
	"/bin/true", "true", "bin/true", "-bin/true", "-/bin/true", "@/bin/true", "@/bin/true x", "!!/bin/true", "!/bin/true", "+!/bin/true", "!+/bin/true", "!!!/bin/true", ":/bin/true", "--/bin/true", "/bin/", "-", "@", "/bin/true ; /bin/false", "/bin/true ; bin/false", "; /bin/true", "/bin/true ;", `/bin/true \;`, "/bin/true 'x", `"/bin/true"`, `/bin/true \q`, "|/bin/true",
	"root", "0", "nobody:x", "a/b", "Bot.x", "bot$", "-bot", "bot", "12a", "ünit", "4294967295", "65535", "a b", "1000", "www-data",
	"A=b", "A", "A=b C", `"A=b c" D=e`, "1A=b", "A-B=c", "=b", "A=", "A='b c", "A b=c",
	"80", "0.0.0.0:80", "[::]:80", "[::1]", "127.0.0.1", "127.0.0.1:0", "@x", "vsock:2:3", "localhost:80", "0", "99999", "[fe80::1]:80", ":80", "*:80", "[fe80::1%lo]:80",
	"daily", "dayly", "*-*-* 12:00", "Mon", "25:00",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BIND", "~CAP_SYS_ADMIN cap_chown", "NET_ADMIN", "CAP_63", "@system-service", "@systm-service", "~@privileged @resources", "@clock:EPERM", "read", "nosuchcall",
	"any", "localhost 10.0.0.0/8", "10.0.0.0/33", "10.0.0.1", "::1/128", "10", "10.1", "everywhere", "AF_INET AF_UNIX", "~AF_PACKET", "AF_FOO", "inet", "cgroup net", "~user", "nets",
}

// sectionsOfTest are the kinds of units whose keys are tried, with what else the file needs.
var sectionsOfTest = map[string]string{
	"service": "Service", "socket": "Socket", "timer": "Timer", "path": "Path", "slice": "Slice", "mount": "Mount", "swap": "Swap", "automount": "Automount",
}

// valuesFor are the candidates for a key. Where a wrong value makes systemd give up the unit, each
// costs a run of its own, so one key of a sort is tried, with the candidates that tell.
func valuesFor(key string) []string {
	switch key {
	case "ExecStart":
		return between("/bin/true", "|/bin/true")
	case "User":
		return between("root", "www-data")
	case "WorkingDirectory":
		return between("/x", "a b")
	}
	alike := regexp.MustCompile("^(Ambient|Capability|Exec|Assert|Condition|Root|Socket.*(User|Group)|.*(Group|Groups)$|USBFunction|Bus|PAMName|PIDFile|Mount|Delegate|LoadC|SetC|BPF)")
	if alike.MatchString(key) {
		return nil
	}
	if os.Getenv("UNITFILE_ALL") != "" {
		return candidates // 100,000 lines
	}
	var some []string
	for i := len(key) % 5; i < len(candidates); i += 5 {
		some = append(some, candidates[i])
	}
	return some
}

func between(first, last string) []string {
	return candidates[slices.Index(candidates, first) : slices.Index(candidates, last)+1]
}

var onLine = regexp.MustCompile(`(?m)^x\.[a-z]+:(\d+): (.*)$`)

// What is refused is what systemd refuses: each key with each candidate, compared with what
// systemd-analyze says of the same line. What systemd takes must never be refused.
func TestValuesAsSystemd(t *testing.T) {
	tool := os.Getenv("UNITFILE_ANALYZE") // another systemd than this machine's
	if testing.Short() {
		t.Skip("a minute of systemd-analyze")
	}
	if tool == "" {
		var err error
		if tool, err = exec.LookPath("systemd-analyze"); err != nil {
			t.Skip("systemd-analyze is not installed: compared where it is")
		}
	}
	missed, tried := 0, 0
	for kind, section := range sectionsOfTest {
		for _, sec := range []string{section, "Unit"} {
			if sec == "Unit" && kind != "service" {
				continue
			}
			// Keys whose wrong values make systemd give up the unit have a file of their own.
			texts := map[string]string{}
			for _, key := range unitfile.Keys(sec) {
				if kind != "service" && slices.Contains(unitfile.Keys("Service"), key) {
					continue // the same for all kinds
				}
				group := ""
				if slices.Contains([]string{"ExecStart", "User", "WorkingDirectory"}, key) {
					group = key
				}
				for _, value := range valuesFor(key) {
					texts[group] += key + "=" + value + "\n"
				}
			}
			for _, text := range texts {
				n, m := compare(t, tool, kind, sec, "["+sec+"]\n"+text)
				tried, missed = tried+n, missed+m
			}
		}
	}
	t.Logf("%d lines tried, %d that systemd complains of are not told", tried, missed)
}

// compare holds each line of a unit against what systemd says of it.
func compare(t *testing.T, tool, kind, section, text string) (tried, missed int) {
	t.Helper()
	said := complaints(t, tool, "x."+kind, text)
	for _, a := range unitfile.Parse([]byte(text)).Assignments {
		tried++
		refused := ""
		for _, p := range unitfile.Check(kind, &unitfile.File{Assignments: []unitfile.Assignment{a}}) {
			if p.Refused {
				refused = p.Message
			}
		}
		word, told := said[a.Line]
		if refused != "" && !told {
			t.Errorf("[%s] %s=%s is refused (%s), and systemd takes it", section, a.Key, a.Value, refused)
		}
		if told && refused == "" && !strings.Contains(word, "Unknown key") {
			missed++
		}
	}
	return tried, missed
}

// complaints are what systemd says, by line. It stops at a line that makes it give up the unit, so
// what follows is asked again.
func complaints(t *testing.T, tool, name, text string) map[int]string {
	lines := strings.SplitAfter(text, "\n")
	said := map[int]string{}
	for done := 0; done < len(lines); {
		part := lines[0] + strings.Repeat("\n", max(done-1, 0)) + strings.Join(lines[max(done, 1):], "")
		out := analyze(t, tool, name, part)
		last := 0
		for _, m := range onLine.FindAllStringSubmatch(out, -1) {
			n, _ := strconv.Atoi(m[1])
			said[n], last = m[2], n
		}
		gaveUp := strings.Contains(out, "bad unit file setting") || strings.Contains(out, "failed to load properly")
		if !gaveUp || last <= done {
			break
		}
		done = last
	}
	return said
}

// analyze is what systemd-analyze verify says of a unit.
func analyze(t *testing.T, tool, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	words := append(strings.Fields(tool), "verify", "--man=no", "--generators=no", path)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=info", "SYSTEMD_COLORS=0", "LC_ALL=C")
	out, _ := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), path, name)
}

// A file of nothing but faults costs no more than one of a few.
func TestCheckIsBounded(t *testing.T) {
	for name, text := range map[string]string{
		"unknown keys":     "[Service]\n" + strings.Repeat("Restrat=always\n", 60000),
		"unknown sections": strings.Repeat("[Servce]\n", 60000),
		"bad values":       "[Service]\n" + strings.Repeat("KillSignal=SIGTREM\n", 60000),
		"long value":       "[Service]\nExecStart=" + strings.Repeat("x ; ", 200000),
		"long list":        "[Unit]\nAfter=" + strings.Repeat("x.service ", 100000),
		"long calendar":    "[Timer]\nOnCalendar=" + strings.Repeat("1,", 400000),
	} {
		start := time.Now()
		for _, kind := range []string{"service", "timer"} {
			unitfile.Check(kind, unitfile.Parse([]byte(text)))
		}
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("%s: Check took %v", name, took)
		}
	}
}
