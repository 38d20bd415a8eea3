package real

import (
	"os"
	"path/filepath"
	"testing"
)

// The socket is asked only where the docker program would ask it too.
func TestDockerSocket(t *testing.T) {
	for text, want := range map[string]string{
		"-":                            "/var/run/docker.sock", // no file
		"{}":                           "/var/run/docker.sock",
		`{"auths":{}}`:                 "/var/run/docker.sock",
		`{"currentContext":"default"}`: "/var/run/docker.sock",
		`{"currentContext":"nas"}`:     "",
		`{"currentContext":`:           "",
		`{"auths":{},"currentContext":"desktop"}`: "",
	} {
		config := filepath.Join(t.TempDir(), "config.json")
		if text != "-" {
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := dockerSocket(config); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
