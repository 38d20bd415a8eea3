package containers

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// keepRepo begins the names of images that are kept for a generation.
const keepRepo = "bellhop.keep/"

// KeepRef is the name of an image that a container of a generation ran. Images without a name are what
// "docker image prune" removes.
func KeepRef(service, container string, generation int64) string {
	tag := strings.Map(func(r rune) rune {
		isPlain := r < 0x80 && (r == '_' || r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r))
		if !isPlain {
			return '_' // a template of systemd, or a container of a pod
		}
		return r
	}, container)
	return fmt.Sprintf("%s%s:%s.%d", keepRepo, strings.ToLower(service), tag[:min(len(tag), maxKeptName)], generation)
}

const maxKeptName = 100 // bytes: a tag has 128 at most

// DropKept takes the names of images away that were kept for generations up to oldest.
func (e Engine) DropKept(ctx context.Context, service string, oldest int64) error {
	if oldest <= 0 {
		return nil
	}

	out, err := e.call(ctx, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", keepRepo+strings.ToLower(service))
	if err != nil {
		return err
	}

	for _, ref := range strings.Fields(out) {
		if !strings.HasPrefix(ref, keepRepo) {
			continue // podman lists all names of an image
		}

		dot := strings.LastIndexByte(ref, '.')
		generation, err := strconv.ParseInt(ref[dot+1:], 10, 64)
		if err != nil || generation > oldest {
			continue
		}
		if _, err := e.call(ctx, "rmi", ref); err != nil {
			return err
		}
	}

	return nil
}

// IsPinned says that a reference names an image for good: by its digest or its id.
func IsPinned(ref string) bool {
	return strings.Contains(ref, "@sha256:") || strings.HasPrefix(ref, "sha256:")
}

// A Ran is the image that a container runs.
type Ran struct {
	Container string // of the compose file, or as State.Service has it
	Ref       string
	ID        string
	Digest    string // NAME@sha256:…; "" for an image that no registry has
}

// ImagesOf are the images that the containers of a project run.
func (e Engine) ImagesOf(ctx context.Context, project string) (all []Ran, err error) {
	now, err := e.Containers(ctx, project)
	if err != nil {
		return nil, err
	}
	return e.ImagesRun(ctx, now)
}

// ImagesRun are the images that some containers run.
func (e Engine) ImagesRun(ctx context.Context, now []State) (all []Ran, err error) {
	if len(now) == 0 {
		return nil, nil
	}

	argv := []string{e.program(), "image", "inspect", "-f", "{{.Id}} {{range .RepoDigests}}{{.}} {{end}}"}
	for _, s := range now {
		argv = append(argv, s.Image)
	}
	out, err := e.run(ctx, machine.Program{Argv: argv})
	if err != nil {
		return nil, err
	}
	digests := map[string][]string{}
	for line := range strings.Lines(out.Stdout) {
		if f := strings.Fields(line); len(f) > 1 {
			digests[f[0]] = f[1:]
		}
	}

	for _, s := range now {
		all = append(all, Ran{Container: s.Service, Ref: s.Ref, ID: s.Image, Digest: DigestFor(s.Ref, digests[s.Image])})
	}
	return all, nil
}

// DigestFor is the digest under the name that ref has; else the first.
func DigestFor(ref string, digests []string) string {
	name := ref
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		name = ref[:i]
	}

	for _, d := range digests {
		if strings.HasPrefix(d, name+"@") {
			return d
		}
	}

	if len(digests) == 0 {
		return ""
	}

	return digests[0]
}

// MovedImages are the ids of the images that may have moved: those that are pulled each time, and those that
// are built.
func (e Engine) MovedImages(ctx context.Context, p *bundle.ComposeProject) (map[string]string, error) {
	ids := map[string]string{}
	for _, c := range p.Containers {
		ref := ImageRef(p, &c)
		if mayMove := c.Pull == PullAlways || c.Build; !mayMove || c.Idle || ref == "" {
			continue
		}

		id, err := e.ImageID(ctx, ref)
		if err != nil {
			return nil, err
		}
		if id != "" {
			ids[ref] = id
		}
	}
	return ids, nil
}

// Start starts containers that are there.
func (e Engine) Start(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := e.call(ctx, append([]string{"start"}, ids...)...)
	return err
}

// Older says that version a, such as 2.26.1, is older than b.
func Older(a, b string) bool {
	as, bs := numbers(a), numbers(b)
	return slices.Compare(as, bs) < 0
}

func numbers(version string) (out []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(strings.TrimFunc(part, func(r rune) bool { return r < '0' || r > '9' }))
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}
