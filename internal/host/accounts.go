package host

import (
	"context"
	"fmt"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/rootless"
)

// doAccounts writes the sysusers snippets, applies them, and changes what they can't.
func (r *run) doAccounts(ctx context.Context) error {
	if err := r.w.SaveMade(); err != nil {
		return err
	}
	early := r.early()
	if err := r.m.ReplaceFiles(without(r.w.Puts, func(p string) bool { return !early(p) }), r.replaced); err != nil {
		return r.ofPath(err)
	}
	if paths := r.wantedPaths("/sysusers.d/"); len(paths) > 0 && (r.w.Create || r.changedAny(paths)) {
		if err := r.m.Accounts.Sysusers(ctx, paths); err != nil {
			return fmt.Errorf("make accounts: %w", err)
		}
	}

	for _, a := range r.w.Usermods {
		if err := r.m.Accounts.Usermod(ctx, a); err != nil {
			return fmt.Errorf("change user %s: %w", a.Name, err)
		}
	}

	for _, u := range r.w.Offer.Manifest.Users {
		if _, ok, err := r.m.Accounts.User(u.Name); err != nil || !ok {
			return fmt.Errorf("user %s is not there after systemd-sysusers", u.Name)
		}
	}

	return r.rootless().Begin(ctx)
}

// early says which paths come before the others: the accounts, and what users' own systemds need, are made
// of them.
func (r *run) early() func(path string) bool {
	ofUsers := r.rootless().Early()
	return func(p string) bool { return strings.Contains(p, "/sysusers.d/") || ofUsers(p) }
}

// rootless is the part of the run that is about users' own systemds.
func (r *task) rootless() *rootless.Run {
	return &rootless.Run{M: r.m, Plan: r.w, Offer: &r.offer, Event: r.event, Warn: r.warn}
}

// doTmpfiles makes the homes. Only what changed, or has a home yet to make, is applied.
func (r *run) doTmpfiles(ctx context.Context) error {
	paths := r.wantedPaths("/tmpfiles.d/")
	if len(paths) == 0 {
		return nil
	}

	somebody := r.w.Create || len(r.w.Usermods) > 0
	if !somebody && !r.changedAny(paths) {
		return nil
	}
	if err := r.m.Accounts.Tmpfiles(ctx, paths); err != nil {
		return fmt.Errorf("make homes: %w", err)
	}
	return nil
}

func without(puts []owned.Change, not func(path string) bool) (out []owned.Change) {
	for _, p := range puts {
		if !not(p.Path) {
			out = append(out, p)
		}
	}
	return out
}

func (r *task) wantedPaths(folder string) (paths []string) {
	for _, f := range r.w.Offer.Manifest.Files {
		if strings.Contains(f.Path, folder) && strings.HasSuffix(f.Path, ".conf") {
			paths = append(paths, f.Path)
		}
	}
	return paths
}

func (r *task) changedAny(paths []string) bool {
	for _, p := range paths {
		if r.w.Changed[bundle.KindFile+":"+p] {
			return true
		}
	}
	return false
}
