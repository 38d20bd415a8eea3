// Package rootless is what a run does for quadlets that are units of a user's own systemd.
//
// Their files lie in the user's home, and their images in the user's storage. Nothing here reads or runs as
// root what the user could have put there: files are compared by package owned, podman's generator sees only
// what bellhop wrote or is about to, and podman runs as the user, in the user's own systemd.
package rootless

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/state"
	"bellhop/internal/host/usersystemd"
)

// A Run is the part of a run that is about users' own systemds.
type Run struct {
	M     state.Dir
	Plan  *plan.Plan
	Offer *bundle.Offer
	Event func(step, text string)
	Warn  func(format string, args ...any)
}

// A home is the folder of quadlets of one user, and what of it the run changes.
type home struct {
	user    string
	dir     string            // of the quadlets
	service map[string]string // whose each quadlet is, by its name below dir
	changed []string          // names below dir
}

// homes are those of the users whose units the bundle has, in the order of their names.
func (r *Run) homes() (all []*home) {
	for _, user := range r.Offer.Manifest.UnitUsers() {
		i := slices.IndexFunc(r.Offer.Manifest.Users, func(u bundle.User) bool { return u.Name == user })
		if i < 0 {
			continue // Preflight refuses it
		}

		h := &home{user: user, dir: bundle.UserQuadletDir(r.Offer.Manifest.Users[i].Home), service: map[string]string{}}
		for _, f := range r.Offer.Manifest.Files {
			dir, name, is := bundle.SplitQuadlet(f.Path)
			if !is || dir != h.dir {
				continue
			}

			h.service[name] = f.Service
			if r.Plan.Changed[bundle.KindFile+":"+f.Path] && !r.Plan.Holds(f.Service) {
				h.changed = append(h.changed, name)
			}
		}
		all = append(all, h)
	}

	return all
}

// services are those whose quadlets lie there.
func (h *home) services() []string {
	return slices.Compact(slices.Sorted(maps.Values(h.service)))
}

// Preflight refuses what the host lacks, and quadlets that podman would make no unit of.
func (r *Run) Preflight(ctx context.Context) error {
	for _, user := range r.Offer.Manifest.UnitUsers() {
		if !slices.ContainsFunc(r.Offer.Manifest.Users, func(u bundle.User) bool { return u.Name == user }) {
			return check.Refuse(bundle.RefusedBundle, "it has units of the systemd of user %s, and makes no such user", user)
		}
	}

	for _, h := range r.homes() {
		if len(h.changed) == 0 {
			continue
		}
		if lacks := r.lacks(ctx, h); len(lacks) > 0 {
			return check.RefuseServices(h.services(), fmt.Errorf("user %s can't run containers without root on this host:\n  %s\nthen: bellhop deploy --retry", h.user, strings.Join(lacks, "\n  ")))
		}
		if err := r.validate(ctx, h); err != nil {
			return err
		}
	}

	return nil
}

// quadlets are the quadlets of a home that bellhop put there, and those that it is about to.
func (r *Run) quadlets(h *home) (now, next containers.Quadlets) {
	now, next = containers.Quadlets{}, containers.Quadlets{}
	collect := func(into containers.Quadlets, p string, e owned.Entry, read func(digest string) []byte) {
		if dir, name, is := bundle.SplitQuadlet(p); is && dir == h.dir && e.Kind == owned.File {
			into[name] = read(e.Digest)
		}
	}

	for p, o := range r.Plan.Old.Owned.Paths {
		collect(now, p, o.Now, r.M.Blobs().Read)
	}
	for p, o := range r.Plan.Next.Paths {
		collect(next, p, o.Now, r.Plan.BytesOf)
	}
	return now, next
}

// validate has podman's generator for users judge what will be there.
func (r *Run) validate(ctx context.Context, h *home) error {
	now, next := r.quadlets(h)
	for _, name := range next.AutoUpdates(h.changed) {
		r.Warn("%s has AutoUpdate=registry: podman may replace its image by itself, which no commit says and no rollback undoes", name)
	}
	if r.M.Programs == nil {
		return nil
	}

	scratch := r.M.At("/run/bellhop-scratch/user")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	bad, err := containers.Validate(ctx, generator{r.M.Programs}, scratch, now, next)
	if err != nil || len(bad) == 0 {
		return err
	}

	var errs []error
	var services []string
	for _, b := range bad {
		b.Text = strings.ReplaceAll(b.Text, bundle.QuadletDir, h.dir)
		errs = append(errs, b)
		if s := h.service[b.Name]; s != "" && !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	return check.RefuseServices(services, errors.Join(errs...))
}

// PullFirst brings the images of what changes while all that runs goes on, for users whose systemd runs
// already. What did not come is told by service.
func (r *Run) PullFirst(ctx context.Context) map[string]error {
	failed := map[string]error{}
	for _, h := range r.homes() {
		if len(h.changed) > 0 && r.isUp(ctx, h.user) {
			maps.Copy(failed, r.pull(ctx, h))
		}
	}
	return failed
}

// anchor is a unit that each systemd of a user has.
const anchor = "basic.target"

func (r *Run) isUp(ctx context.Context, user string) bool {
	unit := bundle.UserUnit(user, anchor)
	states, err := r.M.Glance(ctx, []string{unit})
	return err == nil && states[unit].Active == "active"
}

// Early says which paths of the run come before all others: what starts a user's systemd, and what makes
// the user's folders.
func (r *Run) Early() func(p string) bool {
	var snippets []string
	for _, h := range r.homes() {
		snippets = append(snippets, h.snippets()...)
	}
	return func(p string) bool { return path.Dir(p) == bundle.LingerDir || slices.Contains(snippets, p) }
}

// snippets are the files for systemd-tmpfiles that make the folder of a home.
func (h *home) snippets() (paths []string) {
	for _, s := range h.services() {
		paths = append(paths, "/etc/tmpfiles.d/bellhop-"+s+".conf")
	}
	return paths
}

// Begin makes the folders of users whose quadlets change, starts their systemds where they do not run, and
// brings the images that could not be brought before. It is called when the accounts are there, and what is
// Early.
func (r *Run) Begin(ctx context.Context) error {
	due := &blame.Error{}
	var errs []error
	for _, h := range r.homes() {
		if err := r.begin(ctx, h); err != nil {
			errs = append(errs, err)
			due.Services = append(due.Services, h.services()...)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(errs) == 0 {
		return nil
	}

	due.Err = errors.Join(errs...)
	return due
}

func (r *Run) begin(ctx context.Context, h *home) error {
	if len(h.changed) == 0 {
		return nil
	}
	if err := r.M.Accounts.Tmpfiles(ctx, h.snippets()); err != nil {
		return fmt.Errorf("make the folders of user %s: %w", h.user, err)
	}
	if r.isUp(ctx, h.user) {
		return nil
	}

	unit := bundle.UserUnit(h.user, anchor)
	if err := r.M.Systemd.Job(ctx, "start", []string{unit})[unit]; err != nil {
		return fmt.Errorf("start the systemd of user %s: %w", h.user, err)
	}
	var errs []error
	for service, err := range r.pull(ctx, h) {
		errs = append(errs, fmt.Errorf("service %s: %w", service, err))
	}
	return errors.Join(errs...)
}

// Blame is an error of systemd that is due to the services of the users whose own systemds it is of; any
// other stays as it is.
func (r *Run) Blame(err error) error {
	if err == nil || !usersystemd.IsOfUsers(err) {
		return err
	}

	due := &blame.Error{Err: err}
	for _, h := range r.homes() {
		if usersystemd.IsOf(err, h.user) {
			due.Services = append(due.Services, h.services()...)
		}
	}
	if len(due.Services) == 0 {
		return err
	}
	return due
}

func (r *Run) pull(ctx context.Context, h *home) map[string]error {
	if r.M.Programs == nil {
		return nil
	}
	_, next := r.quadlets(h)
	images := next.Images(h.changed, func(name string) string { return h.service[name] })
	if len(images) == 0 {
		return nil
	}

	a, there, err := r.M.Accounts.User(h.user)
	if err == nil && !there {
		err = errors.New("it is not there")
	}
	if err != nil {
		return map[string]error{images[0].Service: fmt.Errorf("look up user %s: %w", h.user, err)}
	}

	p := &containers.Puller{Programs: As(r.M.Programs, a), Event: r.Event}
	return p.Pull(ctx, images)
}

// userGenerator makes the units of a user's quadlets.
const userGenerator = "/usr/lib/systemd/user-generators/podman-user-generator"

// A generator is podman's for users, where its one for the host is called.
type generator struct{ machine.Programs }

func (g generator) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	if p.Argv[0] == containers.Generator {
		p.Argv = slices.Concat([]string{userGenerator, "--user"}, p.Argv[1:])
	}
	return g.Programs.Run(ctx, p)
}

// pullTime bounds a program that outlived who asked for it, a little above what that waits.
const pullTime = containers.PullTime + containers.PullTime/10

// As runs programs as a user, in a unit of the user's own systemd: whatever podman leaves behind, as the
// process that holds its namespaces, belongs there. It needs the user's bus.
func As(programs machine.Programs, a machine.Account) machine.Programs { return asUser{programs, a} }

type asUser struct {
	programs machine.Programs
	account  machine.Account
}

func (u asUser) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	runtime := fmt.Sprintf("/run/user/%d", u.account.UID)
	argv := []string{
		"setpriv", fmt.Sprintf("--reuid=%d", u.account.UID), fmt.Sprintf("--regid=%d", u.account.GID), "--init-groups", "--",
		"env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + u.account.Home, "LC_ALL=C", "XDG_RUNTIME_DIR=" + runtime, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(runtime, "bus"),
		"systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", "--setenv=LC_ALL=C", fmt.Sprintf("--property=RuntimeMaxSec=%d", int(pullTime.Seconds())),
	}

	for _, e := range p.Env {
		argv = append(argv, "--setenv="+e)
	}
	return u.programs.Run(ctx, machine.Program{Argv: slices.Concat(argv, []string{"--"}, p.Argv), In: p.In})
}
