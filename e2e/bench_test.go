//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkRatioUnitFile changes a unit file of one service of ten on three hosts, warm: from the
// signed webhook to all current, against a parallel shell loop that does the same by hand.
// Base and subject alternate; the medians of five make the ratio.
func BenchmarkRatioUnitFile(b *testing.B) {
	w := newWorld(b)
	w.writeRepo()
	w.write(map[string]string{"services/loop/loop.service": idleUnit})
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
	dir := b.TempDir()
	hand := handLoop(dir)
	var base, subject []time.Duration
	for i := range 6 {
		unit := strings.Replace(idleUnit, "sits there", fmt.Sprintf("sits there %d", i), 1)
		w.write(map[string]string{"services/idle/idle.service": unit})
		c := w.commit("unit")
		began := time.Now()
		w.deliver(c)
		w.waitCurrentFast(c)
		took := time.Since(began)

		w.sh(dir, fmt.Sprintf("sed 's/sits there/by hand %d/' >byhand.service <<'E'\n%sE", i, idleUnit))
		began = time.Now()
		if out, err := exec.Command("bash", "-c", hand).CombinedOutput(); err != nil {
			b.Fatalf("by hand: %v\n%s", err, out)
		}
		if i > 0 { // the first round warms both
			subject, base = append(subject, took), append(base, time.Since(began))
		}
	}
	slices.Sort(base)
	slices.Sort(subject)
	ratio := float64(subject[2]) / float64(base[2])
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(float64(subject[2].Milliseconds()), "ms-bellhop")
	b.ReportMetric(float64(base[2].Milliseconds()), "ms-by-hand")
	b.Logf("bellhop %v, by hand %v", subject, base)
	if ratio > 1.5 {
		b.Errorf("a unit file on three hosts took %.2f × the shell loop, want at most 1.5 ×", ratio)
	}
}

// handLoop is what a person without bellhop types.
func handLoop(dir string) string {
	var s strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&s, "(tar c -C %s byhand.service | ssh -i %s/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@%s "+
			"'tar x -C /etc/systemd/system && systemctl daemon-reload && systemctl restart byhand') & pids+=($!)\n", dir, rigDir(), addr(h))
	}
	return s.String() + `for p in "${pids[@]}"; do wait "$p" || exit 1; done`
}

// waitCurrentFast asks the admin listener, so that the question costs next to nothing.
func (w *world) waitCurrentFast(c string) {
	w.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		resp, err := w.getAdmin("/v1/status")
		if err != nil {
			w.t.Fatal(err)
		}
		var s status
		err = json.NewDecoder(resp.Body).Decode(&s)
		resp.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		ok := s.Commit == c
		for _, h := range s.Hosts {
			ok = ok && h.State == "current"
		}
		if ok {
			return
		}
	}
	w.t.Fatalf("%s does not stand everywhere", c)
}

// BenchmarkRatioKeys changes one key of 201 on one host, and one key of one on another: from
// the signed webhook to all current, alternating, medians of five.
func BenchmarkRatioKeys(b *testing.B) {
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
			began := time.Now()
			w.deliver(c)
			w.waitCurrentFast(c)
			if i > 0 { // the first round warms both
				took[name] = append(took[name], time.Since(began))
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
