package nixsystem

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/host/machine"
)

// A switch that takes long asks for owners that don't come more and more seldom, and at once when the accounts of the
// host change.
func TestOwnersAreAskedForSeldom(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			giveWhile(ctx, &machine.Machine{Root: root}, func(context.Context) ([]string, error) {
				asked.Add(1)
				return []string{"token"}, nil
			})
		}()

		time.Sleep(time.Minute)
		before := asked.Load()
		if before < 10 || before > 40 {
			t.Errorf("in a minute owners were asked for %d times, want 10 to 40", before)
		}

		if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("bot:x:999:999::/:/bin/false\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * filesEvery)
		if asked.Load() == before {
			t.Error("a user came, and nobody asked for him")
		}
		cancel()
		<-done
	})
}
