package host

import (
	"context"

	"bellhop/internal/host/machine"
)

// Look says what is seen at a path.
func Look(m *machine.Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.Tree().Look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}
