package host

import (
	"context"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// Look says what is seen at a path.
func Look(m *machine.Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.Tree().Look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}

// NotStartable says what is wrong with a program.
func NotStartable(m *machine.Machine, p string) string { return notStartable(state.Of(m), p) }
