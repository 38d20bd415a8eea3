package main

import (
	"strings"
	"testing"

	"bellhop/internal/history"
	"bellhop/internal/history/results"
)

// A run shows the line that tells why: the program's own last one, where it wrote any.
func TestFailingLine(t *testing.T) {
	unit := "ssh.service"
	for want, lines := range map[string][]string{
		"ssh.service: /etc/ssh/sshd_config.d/x.conf: terminating, 1 bad configuration options": {
			"Starting ssh.service - OpenBSD Secure Shell server...",
			"/etc/ssh/sshd_config.d/x.conf: line 1: Bad configuration option: ThisIsNoWord",
			"/etc/ssh/sshd_config.d/x.conf: terminating, 1 bad configuration options",
			"ssh.service: Control process exited, code=exited, status=255/EXCEPTION",
			"ssh.service: Failed with result 'exit-code'.",
			"Failed to start ssh.service - OpenBSD Secure Shell server.",
		},
		"ssh.service: Failed at step EXEC spawning /usr/sbin/sshd: Permission denied": { // no program wrote a line
			"ssh.service: Failed at step EXEC spawning /usr/sbin/sshd: Permission denied",
			"ssh.service: Main process exited, code=exited, status=203/EXEC",
			"Failed to start OpenBSD Secure Shell server.",
			"",
		},
		"ssh.service: Failed to start the listener: address in use": {
			"Failed to start the listener: address in use",
			"ssh.service: Main process exited, code=exited, status=1/FAILURE",
		},
		"unit ssh.service: exit-code": {},
	} {
		if got := failingLine(results.Evidence{Unit: &unit, Result: new("exit-code"), Lines: lines}); got != want {
			t.Errorf("failingLine = %q, want %q", got, want)
		}
	}
}

// Each service that failed on a host has its line, and one alone.
func TestFailingLineOfEachService(t *testing.T) {
	seen := func(service, unit, line string) results.Evidence {
		return results.Evidence{Service: &service, Unit: &unit, Lines: []string{line}}
	}
	r := &history.Run{ID: "r1", Hosts: []history.RunResult{{Name: "web1", Evidence: []results.Evidence{
		seen("db", "db.service", "no disk"), seen("db", "db-backup.service", "no db"), seen("web", "web.service", "no port")}}}}
	var out strings.Builder
	printFailingLines(&out, false, "  ", r)
	want := "  web1: db.service: no disk\n  web1: web.service: no port\n  more of it: bellhop history r1 --evidence\n"
	if out.String() != want {
		t.Errorf("printFailingLines:\n%swant\n%s", out.String(), want)
	}
}
