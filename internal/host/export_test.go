package host

import (
	"context"
	"os"
	"time"
)

func init() {
	settleTime = 2 * time.Millisecond // nothing of a test's box dies later
	restTime = 10 * time.Millisecond
	fsync = func(*os.File) error { return nil }
	syncfs = func(int) error { return nil }
}

// Look says what is seen at a path.
func Look(m *Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.tree().Look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}

// NotStartable says what is wrong with a program.
func NotStartable(m *Machine, p string) string { return m.notStartable(p) }
