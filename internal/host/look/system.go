package look

import (
	"bellhop/internal/host/nixsystem"
)

// system compares the NixOS system of the host with that of the manifest.
func (l *looker) system() error {
	if want := l.now.Manifest.System; want != nil {
		for _, d := range nixsystem.Drift(l.m.Machine, want) {
			l.differs(d)
		}
	}
	return nil
}
