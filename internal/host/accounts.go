package host

import (
	"context"
	"fmt"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// doAccounts writes the sysusers snippets, applies them, and changes what they can't.
func (r *run) doAccounts(ctx context.Context) error {
	if err := r.w.SaveMade(); err != nil {
		return err
	}
	if err := r.m.ReplaceFiles(snippets(r.w.Puts, "/sysusers.d/"), r.replaced); err != nil {
		return err
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

	return nil
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

// snippets are those changes that lie in a folder of that name.
func snippets(puts []owned.Change, folder string) (in []owned.Change) {
	for _, p := range puts {
		if strings.Contains(p.Path, folder) {
			in = append(in, p)
		}
	}
	return in
}

func without(puts []owned.Change, folder string) (out []owned.Change) {
	for _, p := range puts {
		if !strings.Contains(p.Path, folder) {
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
