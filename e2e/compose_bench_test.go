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

// BenchmarkRatioStack changes a file that one container of three mounts: from the signed webhook to the end of the run, without
// settle and confirm, against the same by hand over an open connection: the file, and docker compose restart of that container.
// They alternate; the medians of seven make the ratio.
func BenchmarkRatioStack(b *testing.B) {
	withSmallHelper(b)
	w := dockerHost(b)
	const stack = `services:
  db: { image: "tiny:1", command: [run], restart: always }
  app: { image: "tiny:1", command: [run, /conf], restart: always, depends_on: [db], volumes: ["./conf:/conf:ro"] }
  web: { image: "tiny:1", command: [run], restart: always, depends_on: [app] }
`
	w.write(map[string]string{"bellhop.yaml": "confirm: 0s\n" + w.read("bellhop.yaml"), "services/x/service.yaml": "settle: 0s\n", "services/x/compose.yaml": stack, "services/x/conf": "one\n"})
	w.deploy("warm up", "current")
	ids := containers(b)

	socket := b.TempDir() + "/ssh"
	ssh := fmt.Sprintf("ssh -o ControlMaster=auto -o ControlPersist=300 -o ControlPath=%s -i %s/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@%s ", socket, rigDir(), addr("host1"))
	b.Cleanup(func() { exec.Command("bash", "-c", "ssh -O exit -o ControlPath="+socket+" x").Run() })
	byHand := ssh + "'cat >/opt/stacks/byhand.conf && docker compose -p x --project-directory /opt/stacks/x -f /opt/stacks/x/compose.yaml restart --no-deps app'"

	const rounds = 7
	var base, subject []time.Duration
	for i := range rounds + 1 {
		w.write(map[string]string{"services/x/conf": fmt.Sprintln("round", i)})
		c := w.commit("conf")
		time.Sleep(2 * time.Second) // the bell's own pause between two runs
		took := w.deployed(c)

		cmd := exec.Command("bash", "-c", byHand)
		cmd.Stdin = strings.NewReader(fmt.Sprintln("round", i))
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("by hand: %v\n%s", err, out)
		}
		if i > 0 { // the first round warms both
			subject, base = append(subject, took), append(base, time.Since(began))
		}
	}
	if now := containers(b); !slices.Equal(now, ids) || !strings.Contains(on(b, "host1", "docker logs --tail 2 x-app-1 2>&1"), fmt.Sprint("round ", rounds)) {
		b.Fatalf("containers %q, before %q", now, ids)
	}

	reportRatio(b, subject, base, 1.2, "a changed file of a stack of three took %.2f × docker compose restart by hand")
}
