package host

import (
	"context"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// Look says what is seen at a path.
func Look(m *machine.Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.Tree().Look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}

// TidyStack removes the containers of a service that left, after dropKeys, and gives the warnings.
func TidyStack(m *machine.Machine, service string, dropKeys func()) []string {
	var res bundle.Result
	tidy := stackTidier(state.Of(m), []state.StackWas{{Service: service, Project: service, Leaves: true}}, []bundle.Key{{Name: "token"}})
	dropKeys()
	tidy(&bundle.Manifest{}, 1, &res)
	return res.Warnings
}
