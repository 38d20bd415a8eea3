package host

import (
	"context"
)

// Look says what is seen at a path.
func Look(m *Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.tree().Look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}

// NotStartable says what is wrong with a program.
func NotStartable(m *Machine, p string) string { return m.notStartable(p) }
