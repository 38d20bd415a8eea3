package render

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
	"bellhop/internal/fleet/scalar"
	"bellhop/internal/fleet/service"
	"bellhop/internal/unitfile"
)

// A stack is a compose service on one host.
type stack struct {
	bundle.ComposeProject
	names []string // of the folder's files that travel, sorted
}

// PullsImages says whether the service runs containers: a compose project, or a quadlet of an image.
func (r *Rendering) PullsImages() bool {
	isOfImage := func(u service.Unit) bool {
		_, kind := unitfile.SplitName(u.Name)
		return u.IsQuadlet && slices.Contains([]string{"container", "image", "build", "kube"}, kind)
	}
	return r.project != nil || slices.ContainsFunc(r.Service.Units, isOfImage)
}

// readStack reads the compose files with the settings of this host.
func (r *Rendering) readStack() {
	s := r.Service
	if s.Compose == nil || len(s.Compose.Files) == 0 {
		return
	}

	src := s.ComposeSource(r.stackText)
	src.Settings = map[string]string{}
	for name, v := range r.Scope.Settings {
		if scalar.IsScalar(v) {
			src.Settings[name] = fmt.Sprint(v)
		}
	}

	read := compose.Read(src)
	r.Problems = append(r.Problems, read.Problems...)
	r.Unpinned = read.Unpinned
	r.project = &stack{ComposeProject: read.Project, names: read.Travels}
	if len(read.Project.Containers) == 0 {
		return
	}

	p, dir := r.project, bundle.ComposeDir+"/"+s.Name
	if s.Compose.EnvKey != "" {
		p.Env = slices.Insert(p.Env, 0, bundle.KeyDir+"/"+s.Compose.EnvKey)
	}
	if len(read.Settings) > 0 {
		var b strings.Builder
		for _, name := range read.Settings {
			fmt.Fprintf(&b, "%s=%s\n", name, compose.Quote(src.Settings[name]))
		}
		p.Env = append(p.Env, dir+"/settings.env")
		r.add(dir+"/settings.env", []byte(b.String()), "", true, 0o644, "root", "root")
	}

	if len(read.Override) > 0 {
		p.Files = append(p.Files, dir+"/keys.yaml")
		r.add(dir+"/keys.yaml", read.Override, "", true, 0o644, "root", "root")
	}
}

// stackText is a file of a compose service's folder as it stands on this host.
func (r *Rendering) stackText(f *service.File) ([]byte, error) {
	if f.Template == nil {
		return f.Blob.Data, nil
	}
	data, ok := r.fill(f.Template, f.Blob)
	if !ok {
		return nil, fmt.Errorf("%s can't be rendered: %w", f.Source, fs.ErrInvalid)
	}
	return data, nil
}

// travels says whether a file of the service goes to the host: of a compose service's folder, what the
// compose files name.
func (r *Rendering) travels(f *service.File) bool {
	if f.InStack == "" {
		return true
	}
	if r.project == nil {
		return false
	}

	_, ok := slices.BinarySearch(r.project.names, f.InStack)
	return ok
}

// planStack adds the unit of a compose service. What a change does to its containers is for the host, which
// knows them one by one; the unit itself is never restarted for one.
func (r *Rendering) planStack() {
	p := r.project
	if p == nil || len(p.Containers) == 0 {
		return
	}

	name := r.Service.Name + ".service"
	path := bundle.UnitDir + "/" + name
	r.add(path, []byte(unitOfStack(r.Service.Name, &p.ComposeProject)), "", true, 0o644, "root", "root")
	r.units = append(r.units, bundle.Unit{Name: name, Service: r.Service.Name, Enable: true, Start: true, OnChange: bundle.None, Files: []string{path}})

	g := &gate{service: true, starts: []string{name}}
	for _, k := range r.Service.Keys {
		g.keys = append(g.keys, k.Key)
	}
	if g.text() != "" {
		r.gates[name] = g
	}
}

// unitOfStack renders SERVICE.service of a compose service. Each line has its reason:
//
//   - Requires= has the containers stopped and started with the engine, also after its crash.
//   - The guard of ExecStop: an engine that crashed or is starting must not be waited for, since its own start
//     waits for this stop.
//   - env -i: a process's environment would win over the env files.
//   - --pull never: images were pulled before anything was stopped, and a boot needs no registry.
//   - no restart for a change: which containers a change reaches is decided one by one.
func unitOfStack(service string, p *bundle.ComposeProject) string {
	docker := "/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /usr/bin/docker " + strings.Join(p.Args(), " ")
	up := docker + " up -d --no-build --pull never --remove-orphans"
	return `[Unit]
Description=` + service + ` (compose)
Requires=` + bundle.DockerUnit + `
After=` + bundle.DockerUnit + ` network-online.target
Wants=network-online.target
RequiresMountsFor=` + p.Dir + `
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + up + `
ExecReload=` + up + `
ExecStop=/bin/sh -c '[ "$(systemctl show -P SubState ` + bundle.DockerUnit + `)" != running ] || exec ` + docker + ` stop'
TimeoutStartSec=5min
TimeoutStopSec=2min
[Install]
WantedBy=multi-user.target
`
}
