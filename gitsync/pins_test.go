package gitsync

import (
	"testing"

	"golang.org/x/crypto/ssh"
)

// The fingerprints that GitHub publishes for the keys built in here.
func TestGitHubKeys(t *testing.T) {
	want := map[string]string{
		"ssh-ed25519":         "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
		"ecdsa-sha2-nistp256": "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",
		"ssh-rsa":             "SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",
	}
	for _, line := range githubKeys {
		key, err := parsePin(line)
		if err != nil {
			t.Errorf("parsePin(%s) = %v", line, err)
			continue
		}
		if got := ssh.FingerprintSHA256(key); got != want[key.Type()] {
			t.Errorf("%s has fingerprint %s, want %s", key.Type(), got, want[key.Type()])
		}
	}
	if len(githubKeys) != len(want) {
		t.Errorf("%d keys are built in, want %d", len(githubKeys), len(want))
	}
}

// What ssh-keyscan prints is taken as it is.
func TestKeyLines(t *testing.T) {
	scan := "# forge.example:22 SSH-2.0-OpenSSH_9.2\nforge.example " + githubKeys[0] + "\r\n\n  # a remark\nforge.example " + githubKeys[1] + "\n"
	lines := keyLines([]string{scan, githubKeys[2]})
	if len(lines) != 3 {
		t.Fatalf("keyLines = %q", lines)
	}
	for i, line := range lines {
		got, err := parsePin(line)
		want, _ := parsePin(githubKeys[i])
		if err != nil || ssh.FingerprintSHA256(got) != ssh.FingerprintSHA256(want) {
			t.Errorf("line %d: %q, %v", i, line, err)
		}
	}
}
