package undo

import (
	"context"
	"fmt"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/nixsystem"
	"bellhop/internal/host/stacks"
)

// stacks brings the containers back that the run touched. After a reboot no engine is there yet.
func (u *undoer) stacks(ctx context.Context) error {
	if !u.sameBoot {
		return stacks.Owe(u.m, u.j)
	}
	ctx, cancel := context.WithTimeout(ctx, machine.JobDeadline)
	defer cancel()
	b := stacks.Back{Engine: containers.Engine{Programs: u.m.Programs}, All: u.j.Stacks, Started: u.j.Steps["start"]}
	return b.Put(ctx)
}

// system puts back the NixOS system that the run found.
func (u *undoer) system(ctx context.Context) (whole, units error) {
	if u.j.System == nil || u.systemBack {
		return nil, nil
	}

	now, err := u.m.Current()
	if err != nil {
		return err, nil
	}
	back := nixsystem.Undoer{M: u.m.Machine, Run: u.j.Run, Move: u.j.System, Begun: u.sameBoot && u.j.Steps["system"],
		Owners: keyfiles.Of(u.m).Owners(now.Manifest.Keys)}
	whole, units = back.Undo(ctx)
	if whole != nil {
		return fmt.Errorf("bring back the system: %w", whole), units
	}
	u.systemBack = true
	return nixsystem.KeepSystems(u.m), units
}
