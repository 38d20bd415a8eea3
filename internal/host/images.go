package host

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
	"bellhop/internal/host/check"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/quadlets"
)

// scratchDir is where a run tries out what other programs are to judge. It is on a tmpfs, and root's alone, so it
// is not below /run/bellhop, where users read the commands that run as them.
const scratchDir = "/run/bellhop-scratch"

// whileAllRuns does what takes its time before anything is touched.
func (r *run) whileAllRuns(ctx context.Context) error {
	if err := r.images(ctx); err != nil {
		return err
	}
	return r.before(ctx)
}

// images brings the images that what changes runs, while all that runs goes on. A run whose images did
// not come has touched nothing.
func (r *run) images(ctx context.Context) error {
	if err := r.planStacks(ctx); err != nil {
		return err
	}

	if r.m.Programs == nil {
		return nil
	}
	wanted := r.quadletImages()
	logins, err := r.logins(containers.Podman)
	if err != nil {
		return err
	}
	r.quadlets = quadlets.Touched(r.m, r.w, r.warn)
	r.quadlets.Look(ctx)
	if r.offer.NoBefore { // a person goes back
		if wanted, err = r.quadlets.Former(ctx, r.m, r.offer.Digest, wanted); err != nil {
			return err
		}
	}
	pull := &containers.Puller{Programs: r.m.Programs, Event: r.event, Env: logins}
	failed := pull.Pull(ctx, wanted)
	maps.Copy(failed, r.rootless().PullFirst(ctx))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := refuseImages(failed); err != nil {
		return err
	}
	if err := r.buildQuadlets(ctx, logins); err != nil {
		return err
	}
	r.quadlets.Keep(ctx)
	return nil
}

// buildQuadlets builds what .build files say that the run changes, or whose service it changes.
func (r *run) buildQuadlets(ctx context.Context, logins []string) error {
	service := map[string]string{}
	for _, u := range r.offer.Manifest.Units {
		isTouched := u.Action(func(thing string) bool { return r.w.Changed[thing] }) != "" && !r.w.Holds(u.Service)
		for _, f := range u.Files {
			name, below := strings.CutPrefix(f, bundle.QuadletDir+"/")
			if isTouched && below && path.Ext(name) == ".build" {
				service[name] = u.Service
			}
		}
	}

	if _, err := os.Stat(r.m.At(containers.Generator)); err != nil || len(service) == 0 {
		return nil // systemd tells what became of the units
	}

	scratch := r.m.At(scratchDir)
	defer os.RemoveAll(scratch)
	err := errors.Join(os.RemoveAll(filepath.Join(scratch, "files")), os.RemoveAll(filepath.Join(scratch, "quadlets")), os.MkdirAll(scratch, 0o700))
	if err != nil { // what a run left that was killed would come into a build
		return err
	}

	b := &containers.Builder{Programs: r.m.Programs, Scratch: scratch, Env: logins, Event: r.event, Root: r.m.Root, Files: r.waitingFiles(), Logins: r.offer.Manifest.Logins}
	for _, k := range r.offer.Manifest.Keys {
		b.Keys = append(b.Keys, k.Path)
	}

	for _, l := range logins {
		b.LoginsNow = strings.TrimPrefix(l, "REGISTRY_AUTH_FILE=")
	}

	_, next := readQuadlets(r.w, r.m.At(bundle.QuadletDir))
	failed := map[string]error{}
	for name, err := range b.Build(ctx, next, slices.Sorted(maps.Keys(service))) {
		failed[service[name]] = errors.Join(failed[service[name]], err)
	}

	if ctx.Err() != nil {
		return ctx.Err()
	}

	return refuseImages(failed)
}

// waitingFiles are the files of the bundle as they will be.
func (r *task) waitingFiles() map[string]containers.Waiting {
	all := map[string]containers.Waiting{}
	for _, f := range r.offer.Manifest.Files {
		all[f.Path] = containers.Waiting{Mode: os.FileMode(f.Mode), Size: f.Size, Read: func() []byte { return r.w.BytesOf(f.Digest) }}
	}
	return all
}

// logins is the environment in which an engine finds the logins at registries; none where the bundle brings none.
func (r *task) logins(engine string) ([]string, error) {
	all := r.offer.Manifest.Keys
	i := slices.IndexFunc(all, func(k bundle.Key) bool { return k.Path == r.offer.Manifest.Logins })
	if i < 0 {
		return nil, nil
	}
	return containers.Logins(engine, keyfiles.Of(r.m).Now(r.offer.Run, all[i]), r.m.At(scratchDir)+"/.login")
}

// refuseImages refuses the services whose images did not come. What may pass by itself is tried again
// later, with nothing changed in the repo: where only some of them may, the refusal is due to the others alone.
func refuseImages(failed map[string]error) error {
	if len(failed) == 0 {
		return nil
	}

	services := slices.Sorted(maps.Keys(failed))
	var errs []error
	var stay []string // those that a change in the repo has to mend
	for _, s := range services {
		errs = append(errs, fmt.Errorf("service %s: %w", s, failed[s]))
		if !containers.Passes(failed[s]) {
			stay = append(stay, s)
		}
	}

	cause := fmt.Errorf("%w; nothing was touched", errors.Join(errs...))
	if len(stay) == 0 {
		return &check.Refusal{Why: bundle.RefusedRegistry, Services: services, Err: cause}
	}
	return check.RefuseServices(stay, cause)
}

// readQuadlets are the quadlets of the host as they are, and as the run makes them.
func readQuadlets(w *plan.Plan, dir string) (now, next containers.Quadlets) {
	const prefix = bundle.QuadletDir + "/"
	now = containers.ReadQuadlets(dir)
	next = maps.Clone(now)
	for p := range w.Old.Owned.Paths {
		delete(next, strings.TrimPrefix(p, prefix))
	}
	for p, o := range w.Next.Paths {
		if name, below := strings.CutPrefix(p, prefix); below && o.Now.Kind == owned.File {
			next[name] = w.BytesOf(o.Now.Digest)
		}
	}
	return now, next
}

// changedQuadlets are the files of the folder of quadlets that the run puts in place, and whose each is.
func (r *task) changedQuadlets() (names []string, service map[string]string) {
	service = map[string]string{}
	for _, f := range r.offer.Manifest.Files {
		name, below := strings.CutPrefix(f.Path, bundle.QuadletDir+"/")
		if !below {
			continue
		}
		service[name] = f.Service
		if r.changedFile(f.Path) && !r.w.Holds(f.Service) {
			names = append(names, name)
		}
	}
	return names, service
}

func (r *task) quadletImages() []containers.Image {
	names, service := r.changedQuadlets()
	if len(service) == 0 {
		return nil
	}
	_, next := readQuadlets(r.w, r.m.At(bundle.QuadletDir))
	images := next.Images(names, func(name string) string { return service[name] })
	images = append(images, r.podImages(next, names, service)...)
	containers.AuthNow(images, r.keyNow)
	return images
}

// podImages are the images of the .kube quadlets that change, or whose YAML does.
func (r *task) podImages(next containers.Quadlets, changed []string, service map[string]string) (images []containers.Image) {
	waiting := r.waitingFiles()
	has := func(p string) bool {
		_, waits := waiting[p]
		_, err := os.Stat(r.m.At(p))
		return waits || err == nil
	}

	for _, name := range slices.Sorted(maps.Keys(service)) {
		if path.Ext(name) != ".kube" || r.w.Holds(service[name]) {
			continue
		}
		at := next.Yaml(name, bundle.QuadletDir)
		isChanged := slices.ContainsFunc(changed, func(c string) bool { return c == name || strings.HasPrefix(c, name+".d/") })
		isTouched := isChanged || r.changedFile(at)
		if at == "" || !isTouched {
			continue
		}

		var text []byte
		if f, ok := waiting[at]; ok {
			text = f.Read()
		} else {
			text = containers.ReadYaml(r.m.At(at))
		}
		for _, i := range next.Pods(name, at, text, has) {
			i.Service = service[name]
			images = append(images, i)
		}
	}
	return images
}

// keyNow is where a key is that is to stand at a path: it may be waiting.
func (r *task) keyNow(at string) string {
	for _, k := range r.offer.Manifest.Keys {
		if k.Path == at {
			return keyfiles.Of(r.m).Now(r.offer.Run, k)
		}
	}
	return at
}

// checkQuadlets has podman's generator judge the quadlets as they will be, and tells of those that
// podman may update by itself.
func (r *task) checkQuadlets(ctx context.Context) error {
	names, service := r.changedQuadlets()
	if len(names) == 0 {
		return nil
	}
	now, next := readQuadlets(r.w, r.m.At(bundle.QuadletDir))
	for _, name := range next.AutoUpdates(names) {
		r.warn("%s has AutoUpdate=registry: podman may replace its image by itself, which no commit says and no rollback undoes", name)
	}
	for _, name := range next.AskAtStart(names) {
		r.warn("%s has Pull=always or newer: podman asks its registry whenever it starts, so no rollback brings back the image that it ran", name)
	}
	if _, err := os.Stat(r.m.At(containers.Generator)); err != nil || r.m.Programs == nil {
		return nil // systemd tells what became of the units
	}

	scratch := r.m.At(scratchDir)
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	bad, err := containers.Validate(ctx, r.m.Programs, scratch, now, next)
	if err != nil || len(bad) == 0 {
		return err
	}

	var errs []error
	var services []string
	for _, b := range bad {
		errs = append(errs, b)
		if s := service[b.Name]; s != "" && !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	return check.RefuseServices(services, errors.Join(errs...))
}
