// Package images lists which images containers run, and which their tags mean by now.
//
// Names come from the config repo, and only digests from hosts: what a host says leads to no registry. Nothing is
// changed by looking; an update is a commit.
package images

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/host/containers"
	"bellhop/internal/link"
	"bellhop/internal/registry"
	"bellhop/internal/registry/login"
	"bellhop/internal/unitfile"
)

// An Image is what one container of a host runs.
type Image struct {
	Host      string `json:"host"`
	Service   string `json:"service"`
	Container string `json:"container"` // of the compose file; the quadlet's file
	Image     string `json:"image"`     // as the repo names it
	Running   string `json:"running"`   // digest, the newest where the image is that too; "" where nothing runs, or where no registry has the image
	Newest    string `json:"newest"`    // digest of the tag by now; "" where it could not be had
	Error     string `json:"error,omitempty"`

	key     string   // what the host calls the container
	digests []string // all that the image which runs is known by there
}

// A List is what images --json prints; a contract.
type List struct {
	V      int     `json:"v"`
	Images []Image `json:"images"`
}

// IsOld says that the tag means another image by now than the one that runs.
func (i *Image) IsOld() bool { return i.Running != "" && i.Newest != "" && i.Running != i.Newest }

// Of are the images of a host's containers, less those that are built there. file gives the bytes of a file
// of the bundle by its digest.
func Of(m *bundle.Manifest, file func(digest string) ([]byte, error)) (all []Image, err error) {
	for _, s := range m.Services {
		if s.Compose == nil {
			continue
		}
		for _, c := range s.Compose.Containers {
			if !c.Build && !c.Idle {
				all = append(all, Image{Host: m.Host, Service: s.Name, Container: c.Name, Image: c.Image, key: "c " + s.Compose.Project + "/" + c.Name})
			}
		}
	}

	for _, f := range m.Files {
		name, below := strings.CutPrefix(f.Path, bundle.QuadletDir+"/")
		if _, kind := unitfile.SplitName(name); !below || kind != "container" {
			continue
		}
		text, err := file(f.Digest)
		if err != nil {
			return nil, err
		}
		u := unitfile.Read(text)
		if ref := u.Value("Container", "Image"); ref != "" && !strings.HasSuffix(ref, ".image") && !strings.HasSuffix(ref, ".build") {
			all = append(all, Image{Host: m.Host, Service: f.Service, Container: name, Image: ref, key: "p " + u.Generated(name)})
		}
	}

	return all, nil
}

// Line is the line of shell that says which images the containers of a host run. One image may have several digests: that
// of an index of several platforms, and that of what the index has for this one.
const Line = `ids=$(docker ps -q --filter label=com.docker.compose.project 2>/dev/null)
[ -z "$ids" ] || { docker inspect -f 'c {{index .Config.Labels "com.docker.compose.project"}}/{{index .Config.Labels "com.docker.compose.service"}} {{.Image}}' $ids
docker image inspect -f 'i {{.Id}} {{range .RepoDigests}}{{.}} {{end}}' $(docker inspect -f '{{.Image}}' $ids); }
ids=$(podman ps -q --filter label=PODMAN_SYSTEMD_UNIT 2>/dev/null)
[ -z "$ids" ] || { podman inspect -f 'p {{index .Config.Labels "PODMAN_SYSTEMD_UNIT"}} {{.Image}} {{.ImageDigest}}' $ids
podman image inspect -f 'i {{.ID}} {{range .RepoDigests}}{{.}} {{end}}' $(podman inspect -f '{{.Image}}' $ids); }
true`

var digest = regexp.MustCompile(`sha256:[0-9a-f]{64}$`)

// Run fills in the digests of what runs, from what Line printed.
func Run(all []Image, said string) {
	runs, digests := map[string][]string{}, map[string][]string{}
	for line := range strings.Lines(said) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		switch f[0] {
		case "c", "p":
			runs[f[0]+" "+f[1]] = f[2:]
		case "i":
			digests[f[1]] = f[2:]
		}
	}

	for i := range all {
		run := runs[all[i].key]
		if len(run) == 0 {
			continue
		}
		names := digests[run[0]]
		all[i].Running = digest.FindString(containers.DigestFor(all[i].Image, names))
		if len(run) > 1 { // podman says by which digest it was pulled
			all[i].Running = digest.FindString(run[1])
		}
		for _, name := range names {
			all[i].digests = append(all[i].digests, digest.FindString(name))
		}
	}
}

// Ask fills in what each tag means by now, where nothing is wrong so far. A tag that several containers have is asked for once.
func Ask(ctx context.Context, c *registry.Client, all []Image) {
	type answer struct{ digest, err string }
	known := map[string]answer{}
	for i := range all {
		if all[i].Error != "" {
			continue
		}

		r, err := registry.Parse(all[i].Image)
		if err != nil {
			all[i].Error = err.Error()
			continue
		}
		if r.Tag == "" {
			continue // nothing moves
		}

		a, has := known[r.String()]
		if !has {
			var err error
			if a.digest, err = c.Newest(ctx, r); err != nil {
				a.err = err.Error()
			}

			known[r.String()] = a
		}

		all[i].Newest, all[i].Error = a.digest, a.err
		if a.digest != "" && slices.Contains(all[i].digests, a.digest) {
			all[i].Running = a.digest
		}
	}
}

// Sort puts them in the order of hosts, services and containers.
func Sort(all []Image) {
	slices.SortStableFunc(all, func(a, b Image) int {
		return slices.Compare([]string{a.Host, a.Service, a.Container}, []string{b.Host, b.Service, b.Container})
	})
}

// Table is all as lines for people: the first digits of each digest, and a mark where a tag means another image by now.
func Table(all []Image) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "host\tcontainer\timage\trunning\tnewest")

	for _, i := range all {
		newest := short(i.Newest)
		switch {
		case i.Error != "":
			newest = i.Error
		case i.IsOld():
			newest += " (newer)"
		}
		fmt.Fprintf(w, "%s\t%s:%s\t%s\t%s\t%s\n", i.Host, i.Service, i.Container, i.Image, short(i.Running), newest)
	}

	w.Flush()
	return b.String()
}

func short(digest string) string {
	if len(digest) < 19 {
		return "-"
	}
	return digest[:19]
}

// atOnce is how many hosts are asked at once.
const atOnce = 10

// Read lists the images of hosts of a fleet, with what runs there. exec runs a line of shell on a host as root. A host
// that is away takes nothing from the list of the others: its images have an Error, and err has all that is wrong.
func Read(ctx context.Context, f *fleet.Fleet, hosts []link.Target, exec func(context.Context, link.Target, string) (string, error)) (all []Image, err error) {
	errs := make([]error, len(hosts))
	for i, of := range link.Each(ctx, hosts, atOnce, func(ctx context.Context, t link.Target) part {
		images, err := readHost(ctx, f, t, exec)
		return part{images, err}
	}) {
		all, errs[i] = append(all, of.images...), of.err
	}

	Sort(all)
	return all, errors.Join(errs...)
}

// A part is what one host comes to.
type part struct {
	images []Image
	err    error
}

// readHost lists the images of one host. Services that can't be made are left out, and are in the error.
func readHost(ctx context.Context, f *fleet.Fleet, t link.Target, exec func(context.Context, link.Target, string) (string, error)) ([]Image, error) {
	b, whole := f.Bundle(t.Name)
	if whole != nil {
		whole = fmt.Errorf("%s: %w", t.Name, whole)
		var err error
		if b, err = f.Partial(t.Name); err != nil {
			return nil, whole
		}
	}

	of, err := Of(&b.Manifest, b.File)
	if err != nil || len(of) == 0 {
		return nil, errors.Join(whole, err)
	}

	said, err := exec(ctx, t, Line)
	if err != nil {
		err = fmt.Errorf("ask %s for its images: %w", t.Name, err)
		for i := range of {
			of[i].Error = "the host could not be asked"
		}
	}

	Run(of, said)
	return of, errors.Join(whole, err)
}

// Logins gives the logins of registries: that show opens; one that does not open is none.
func Logins(f *fleet.Fleet, show func(file string) ([]byte, error)) func(registry string) (login.Login, bool) {
	return func(name string) (l login.Login, ok bool) {
		for _, r := range f.Registries {
			if r.Name != name {
				continue
			}
			value, err := show(r.Source)
			if err == nil {
				l, err = login.Parse(name, value)
				clear(value)
			}
			return l, err == nil
		}
		return l, false
	}
}
