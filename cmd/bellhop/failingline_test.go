package main

import (
	"testing"

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
