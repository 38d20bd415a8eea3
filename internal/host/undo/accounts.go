package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
)

func (u *undoer) accountsDiffer() bool {
	return slices.ContainsFunc(u.j.Accounts, func(was machine.Account) bool {
		return u.hasChanged(was)
	})
}

// hasChanged says that an account is not as it was, in what a run changes. The rest is not compared: people change
// a shell, and a journal of a former release does not have it.
func (u *undoer) hasChanged(was machine.Account) bool {
	is, ok, err := u.m.Accounts.User(was.Name)
	isSame := is.Group == was.Group && is.Home == was.Home
	return err == nil && ok && !isSame
}

func (u *undoer) accounts(ctx context.Context) error {
	var errs []error
	for _, was := range u.j.Accounts {
		if u.hasChanged(was) {
			if err := u.m.Accounts.Usermod(ctx, was); err != nil {
				errs = append(errs, fmt.Errorf("change user %s back: %w", was.Name, err))
			}
		}
	}

	return errors.Join(errs...)
}

// homes gives a home back to who had it: the snippet that stood before says so. What the run made a
// home of nobody's before stays, as its user does.
func (u *undoer) homes(ctx context.Context) error {
	nothingReplaced := !u.j.Steps["accounts"] && u.sameBoot // a power cut may take the line of the step along
	if nothingReplaced {
		return nil
	}

	var paths []string
	for _, p := range u.j.Puts {
		if strings.Contains(p.Path, "/tmpfiles.d/") && strings.HasSuffix(p.Path, ".conf") && p.Was.Kind == owned.File {
			paths = append(paths, p.Path)
		}
	}

	if len(paths) == 0 {
		return nil
	}
	if err := u.m.Accounts.Tmpfiles(ctx, paths); err != nil {
		return fmt.Errorf("give homes back: %w", err)
	}

	return nil
}

// made names the accounts that the run left behind.
func (u *undoer) made() (kept []string) {
	for _, name := range u.j.Made {
		if _, ok, err := u.m.Accounts.User(name); err == nil && ok {
			kept = append(kept, "user "+name)
		}
	}
	return kept
}
