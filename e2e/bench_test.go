//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a push may cost, in costs of doing it by hand: in time, which was 1.29 on a machine with nothing else to do, and
// in CPU of the hosts, which was 1.26 to 1.35. The aim is 1.25 for both.
const (
	mostOfByHand    = 1.4
	mostCPUOfByHand = 1.4
)

// BenchmarkRatioUnitFile changes a unit file of one service of ten on three hosts, warm: from the
// signed webhook to all current, without settle and confirm, against a parallel shell loop over open
// connections that does the same by hand. Base and subject alternate; the medians of seven make the ratio.
// What both cost the hosts in CPU is told too: that tells much the same on a machine that is busy.
func BenchmarkRatioUnitFile(b *testing.B) {
	withSmallHelper(b)
	w := newWorld(b)
	w.writeRepo()
	w.write(map[string]string{"services/idle/service.yaml": "settle: 0s\n", "bellhop.yaml": "confirm: 0s\n" + w.read("bellhop.yaml")})
	enabled := []string{"idle: true"}
	for _, s := range []string{"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"} {
		w.write(map[string]string{
			"services/" + s + "/" + s + ".service":        idleUnit,
			"services/" + s + "/service.yaml":             "user: { name: " + s + ", home: /srv/" + s + " }\n",
			"services/" + s + "/files/etc/" + s + ".conf": "listen = 127.0.0.1\n",
		})
		enabled = append(enabled, s+": true")
	}
	for name := range hosts {
		w.enable(name, enabled...)
	}
	w.push("warm up")

	const rounds = 7
	byHand := newHandLoop(b)
	cold, warm := byHand.line(false), byHand.line(true)
	var base, logins, subject, baseCPU, subjectCPU []time.Duration
	for i := range rounds + 1 {
		unit := strings.Replace(idleUnit, "sits there", fmt.Sprintf("sits there %d", i), 1)
		w.write(map[string]string{"services/idle/idle.service": unit})
		c := w.commit("unit")
		time.Sleep(2 * time.Second) // the bell's own pause between two runs
		var took, open time.Duration
		costs := hostsCPU(func() { took = w.deployed(c) })
		costsByHand := hostsCPU(func() { open = byHand.run(warm, fmt.Sprint("warm ", i)) })
		dialed := byHand.run(cold, fmt.Sprint("cold ", i))
		if i > 0 { // the first round warms all
			subject, base, logins = append(subject, took), append(base, open), append(logins, dialed)
			subjectCPU, baseCPU = append(subjectCPU, costs), append(baseCPU, costsByHand)
		}
	}

	for _, took := range [][]time.Duration{subject, base, logins, subjectCPU, baseCPU} {
		slices.Sort(took)
	}
	ratio := float64(subject[rounds/2]) / float64(base[rounds/2])
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(float64(subject[rounds/2].Milliseconds()), "ms-bellhop")
	b.ReportMetric(float64(base[rounds/2].Milliseconds()), "ms-by-hand")
	b.ReportMetric(float64(logins[rounds/2].Milliseconds()), "ms-by-hand-with-logins")
	b.ReportMetric(float64(subjectCPU[rounds/2].Milliseconds()), "ms-cpu-bellhop")
	b.ReportMetric(float64(baseCPU[rounds/2].Milliseconds()), "ms-cpu-by-hand")
	b.Logf("bellhop %v, by hand %v, by hand with logins %v, CPU of the hosts %v, by hand %v", subject, base, logins, subjectCPU, baseCPU)
	if ratio > mostOfByHand {
		b.Errorf("a unit file on three hosts took %.2f × the shell loop over open connections, want at most %.2f ×", ratio, mostOfByHand)
	}

	if baseCPU[rounds/2] == 0 {
		return // the kernel counts it in another way
	}
	ofCPU := float64(subjectCPU[rounds/2]) / float64(baseCPU[rounds/2])
	b.ReportMetric(ofCPU, "ratio-cpu")
	if ofCPU > mostCPUOfByHand {
		b.Errorf("a unit file on three hosts cost them %.2f × the CPU of the shell loop, want at most %.2f ×", ofCPU, mostCPUOfByHand)
	}
}

// hostsCPU is how much CPU the hosts took for what do does, and for what it leaves behind for a moment.
func hostsCPU(do func()) time.Duration {
	before := cpuOfHosts()
	do()
	time.Sleep(300 * time.Millisecond)
	return cpuOfHosts() - before
}

// cpuOfHosts is the CPU that the cgroups of the rig's hosts took so far; 0 where the kernel does not count it
// in the way of cgroup v1.
func cpuOfHosts() (sum time.Duration) {
	for _, h := range hosts {
		p, _ := os.ReadFile("/sys/fs/cgroup/cpuacct/bh" + lane + "-" + h + "/cpuacct.usage")
		n, _ := strconv.ParseInt(strings.TrimSpace(string(p)), 10, 64)
		sum += time.Duration(n)
	}
	return sum
}

// withSmallHelper has servers that are started from now on bring the small helper to hosts, as `make build` does.
func withSmallHelper(b *testing.B) {
	b.Helper()
	dir := b.TempDir()
	must(sh("", "cd .. && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "+dir+"/bellhop-host-linux-"+runtime.GOARCH+" ./cmd/bellhop-host"))
	b.Setenv("BELLHOP_HELPERS", dir)
}

// handLoop is what a person without bellhop types.
type handLoop struct {
	b   *testing.B
	dir string
}

func newHandLoop(b *testing.B) handLoop {
	l := handLoop{b, b.TempDir()}
	b.Cleanup(func() { exec.Command("bash", "-c", strings.ReplaceAll(l.each("ssh -O exit"), "\n", "; ")).Run() })
	return l
}

// line sends the unit file to all hosts at the same time, over connections that stay open or by a new login each.
func (l handLoop) line(open bool) string {
	ssh := "ssh -o ControlPath=none"
	if open {
		ssh = "ssh -o ControlMaster=auto -o ControlPersist=300"
	}
	return l.each("cat byhand.service | "+ssh) + `for p in "${pids[@]}"; do wait "$p" || exit 1; done`
}

func (l handLoop) each(ssh string) string {
	var s strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&s, "(cd %s && %s -o ControlPath=%s/%%h -i %s/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@%s "+
			"'cat >/etc/systemd/system/byhand.service && systemctl daemon-reload && systemctl restart byhand') & pids+=($!)\n", l.dir, ssh, l.dir, rigDir(), addr(h))
	}
	return s.String()
}

// run changes the unit file and does the line.
func (l handLoop) run(line, text string) time.Duration {
	l.b.Helper()
	unit := strings.Replace(idleUnit, "sits there", text, 1)
	if err := os.WriteFile(filepath.Join(l.dir, "byhand.service"), []byte(unit), 0o644); err != nil {
		l.b.Fatal(err)
	}
	began := time.Now()
	if out, err := exec.Command("bash", "-c", line).CombinedOutput(); err != nil {
		l.b.Fatalf("by hand: %v\n%s", err, out)
	}
	return time.Since(began)
}

// deployed delivers a commit and says how long it took until its run had ended with all hosts current. The
// server is not asked meanwhile: its answers would cost it what the hosts need.
func (w *world) deployed(c string) time.Duration {
	w.t.Helper()
	ended := w.log.await(func(line []byte) bool {
		return bytes.Contains(line, []byte("run ended")) && bytes.Contains(line, []byte(c))
	})
	began := time.Now()
	w.deliver(c)
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		w.t.Fatalf("the run of %s does not end", c)
	}
	took := time.Since(began)

	s := w.status()
	for _, h := range s.Hosts {
		if s.Commit != c || h.State != "current" {
			w.t.Fatalf("%s does not stand everywhere: %+v", c, s)
		}
	}
	return took
}

// BenchmarkRatioKeys changes one key of 201 on one host, and one key of one on another: from
// the signed webhook to all current, alternating, medians of five.
func BenchmarkRatioKeys(b *testing.B) {
	withSmallHelper(b)
	w := newWorld(b)
	w.writeRepo()
	for name, n := range map[string]int{"one": 1, "many": 201} {
		y := "keys:\n"
		for i := range n {
			y += fmt.Sprintf("  %s%d: {}\n", name, i)
		}
		w.write(map[string]string{"services/" + name + "/" + name + ".service": idleUnit, "services/" + name + "/service.yaml": y})
	}
	w.enable("lufta", "one: true")
	w.enable("kos-mos", "many: true")
	w.secret("one0", "value")
	w.secret("many0", "value")
	sealed := w.read("secrets/many0.age")
	for i := range 200 {
		w.write(map[string]string{fmt.Sprintf("secrets/many%d.age", i+1): sealed})
	}
	w.push("warm up")
	took := map[string][]time.Duration{}
	for i := range 6 {
		for _, name := range []string{"one", "many"} {
			w.secret(name+"0", fmt.Sprint("another value ", i))
			c := w.commit("a key")
			time.Sleep(2 * time.Second) // the bell's own pause between two runs
			once := w.deployed(c)
			if i > 0 { // the first round warms both
				took[name] = append(took[name], once)
			}
		}
	}
	slices.Sort(took["one"])
	slices.Sort(took["many"])
	ratio := float64(took["many"][2]) / float64(took["one"][2])
	b.ReportMetric(ratio, "ratio")
	b.Logf("one of 201 %v, one of one %v", took["many"], took["one"])
	if ratio > 1.5 {
		b.Errorf("one key of 201 took %.2f × one of one, want at most 1.5 ×", ratio)
	}
}

// reportRatio compares the medians of as many rounds by bellhop and by hand. what says which ratio it is, with a place for it.
func reportRatio(b *testing.B, subject, base []time.Duration, most float64, what string) {
	b.Helper()
	slices.Sort(subject)
	slices.Sort(base)
	bellhop, byHand := subject[len(subject)/2], base[len(base)/2]
	ratio := float64(bellhop) / float64(byHand)
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(float64(bellhop.Milliseconds()), "ms-bellhop")
	b.ReportMetric(float64(byHand.Milliseconds()), "ms-by-hand")
	b.Logf("bellhop %v, by hand %v", subject, base)
	if ratio > most {
		b.Errorf(what+", want at most %.1f ×", ratio, most)
	}
}
