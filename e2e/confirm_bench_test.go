//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkRatioConfirm changes a unit on one host, with settle and confirm and without, and logs in by hand in
// between: together they cost at most settle, one login by hand and 100 ms. Medians of five.
func BenchmarkRatioConfirm(b *testing.B) {
	const settle, slack = time.Second, 100 * time.Millisecond
	withSmallHelper(b)
	w := newWorld(b)
	w.writeRepo()
	w.enable("chrysalis", "idle: true")
	w.enable("lufta")
	w.enable("kos-mos")
	w.push("warm up")
	config := w.read("bellhop.yaml")

	changed := func(text, more, settle string) time.Duration {
		w.write(map[string]string{
			"bellhop.yaml":               more + config,
			"services/idle/idle.service": strings.Replace(idleUnit, "sits there", text, 1),
			"services/idle/service.yaml": "settle: " + settle + "\n",
		})
		c := w.commit(text)
		time.Sleep(2 * time.Second) // the bell's own pause between two runs
		return w.deployed(c)
	}

	var with, without, byHand []time.Duration
	for i := range 6 {
		on := changed(fmt.Sprint("is confirmed ", i), "", settle.String())
		off := changed(fmt.Sprint("is not confirmed ", i), "confirm: 0s\n", "0s")
		hand := loginByHand(b, "host1")
		if i > 0 { // the first round warms all
			with, without, byHand = append(with, on), append(without, off), append(byHand, hand)
		}
	}
	for _, took := range [][]time.Duration{with, without, byHand} {
		slices.Sort(took)
	}

	cost := with[2] - without[2]
	b.ReportMetric(float64((cost - settle).Milliseconds()), "ms-beside-settle")
	b.ReportMetric(float64(byHand[2].Milliseconds()), "ms-by-hand")
	b.Logf("with %v, without %v, a login by hand %v", with, without, byHand)
	if most := settle + byHand[2] + slack; cost > most {
		b.Errorf("settle and confirm cost %v, want at most %v", cost, most)
	}
}

// loginByHand is how long a person's ssh takes to log in and run nothing.
func loginByHand(b *testing.B, host string) time.Duration {
	b.Helper()
	began := time.Now()
	out, err := exec.Command("ssh", "-i", rigDir()+"/id", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "root@"+addr(host), "true").CombinedOutput()
	if err != nil {
		b.Fatalf("ssh by hand: %v\n%s", err, out)
	}
	return time.Since(began)
}
