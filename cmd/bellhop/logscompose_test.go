package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What containers write is in no journal: docker compose is asked, by the project's name alone.
func TestLogsOfAComposeService(t *testing.T) {
	o := &logsOptions{lines: 20, unit: "wiki.service", stacks: map[string]composed{"a": {project: "wiki-2"}, "b": {"wiki", "app"}}}
	for host, want := range map[string]string{
		"a": "docker compose --ansi never -p wiki-2 logs --no-color --tail 20",
		"b": "docker compose --ansi never -p wiki logs --no-color --tail 20 app",
		"c": "journalctl --no-pager -n 20 -u wiki.service",
	} {
		if got := strings.ReplaceAll(journalLine(o, host), "'", ""); got != want {
			t.Errorf("on %s: %s, want %s", host, got, want)
		}
	}

	o.since = "2 hours ago"
	out, err := exec.Command("sh", "-c", "docker() { echo \"$@\"; }; "+strings.Replace(journalLine(o, "b"), "exec \"$@\"", "echo \"$@\"", 1)).CombinedOutput()
	if want := "docker compose --ansi never -p wiki logs --no-color --tail 20 app --since 20"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("with --since: %s, %v; want %s…", out, err, want)
	}
}
