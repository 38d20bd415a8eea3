package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// A fakeDocker is an engine of one container "app" for each project, which is made anew where the
// compose file differs. The units of the twin start and stop projects as the file that stands says.
type fakeDocker struct {
	machine.Systemd
	m *lab.Machine

	mu    sync.Mutex
	made  int
	all   map[string]*containers.State // by project
	wrong []string                     // what must not have happened
}

func newFakeDocker(m *lab.Machine) *fakeDocker {
	d := &fakeDocker{Systemd: m.Host().Systemd, m: m, all: map[string]*containers.State{}}
	m.Host().Systemd, m.Host().Programs = d, d
	return d
}

// Job acts on the projects of units, too: systemd has the new file read before a restart stops anything.
func (d *fakeDocker) Job(ctx context.Context, verb string, names []string) map[string]error {
	errs := d.Systemd.Job(ctx, verb, names)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		text, _ := os.ReadFile(d.m.Path(bundle.UnitDir + "/" + n))
		_, call, isStack := strings.Cut(string(text), "ExecStart=/usr/bin/docker compose --project-name ")
		project, _, _ := strings.Cut(call, " ")
		if isStack && (verb == "stop" || verb == "restart") && d.all[project] != nil {
			d.all[project].Status = "exited"
		}
		if verb != "start" && verb != "restart" || errs[n] != nil {
			continue
		}
		for other, s := range d.all {
			if s.Status == "running" && other != project && (strings.HasPrefix(n, other+".") || strings.HasPrefix(project, "bot")) {
				d.wrong = append(d.wrong, fmt.Sprintf("%s of %s while project %s runs", verb, n, other))
			}
		}
		if isStack {
			d.up(project)
		}
	}
	return errs
}

// up makes or starts the container of a project.
func (d *fakeDocker) up(project string) {
	text, _ := os.ReadFile(d.m.Path("/opt/stacks/compose.yaml"))
	if s := d.all[project]; s == nil || s.Hash != bundle.DigestBytes(text) {
		d.made++
		d.all[project] = &containers.State{ID: fmt.Sprintf("id%d", d.made), Service: "app", Image: "sha256:1", Ref: "app:1", Hash: bundle.DigestBytes(text), Policy: "always"}
	}
	d.all[project].Status = "running"
}

func (d *fakeDocker) Run(_ context.Context, p machine.Program) (machine.Output, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := p.Argv[len(p.Argv)-1]
	_, project, _ := strings.Cut(last, "compose.project=")
	out := ""
	switch call := strings.Join(p.Argv[1:], " "); {
	case strings.HasPrefix(call, "ps ") && d.all[project] != nil:
		out = d.all[project].ID
	case strings.HasPrefix(call, "volume ls"):
		out = project + "_data"
	case strings.HasPrefix(call, "inspect "):
		for _, s := range d.all {
			if slices.Contains(p.Argv, s.ID) {
				line, _ := json.Marshal(s)
				out += string(line) + "\n"
			}
		}
	case strings.HasPrefix(call, "rm "):
		for project, s := range d.all {
			if slices.Contains(p.Argv, s.ID) {
				delete(d.all, project)
			}
		}
	case strings.HasPrefix(call, "image inspect"):
		out = "sha256:1"
	case strings.HasSuffix(call, "compose version --short"):
		out = containers.Floor
	case last == "config":
		text, err := os.ReadFile(p.Argv[slices.Index(p.Argv, "-f")+1])
		return machine.Output{Stdout: string(text)}, err
	case strings.HasSuffix(call, "config --hash *"):
		out = "app " + bundle.DigestBytes([]byte(p.In))
	case strings.Contains(call, " up -d"):
		d.up(p.Argv[slices.Index(p.Argv, "--project-name")+1])
	}
	return machine.Output{Stdout: out}, nil
}

// runs lists the projects that have containers, and how these are.
func (d *fakeDocker) runs() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for project, s := range d.all {
		all = append(all, project+" "+s.Status)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// projectLoad is a service that runs as a compose project; where project is "", as a process of its own.
func projectLoad(service, project, text string) *load {
	l := newLoad()
	settle := int64(1)
	s := bundle.Service{Name: service, Settle: &settle}
	unit, start := bundle.Unit{Name: service + ".service", Service: service, Enable: true, Start: true, OnChange: bundle.Restart}, "/bin/"+text
	if project != "" {
		file := "/opt/stacks/compose.yaml"
		l.file(file, text)
		s.Compose = &bundle.ComposeProject{Project: project, Dir: path.Dir(file), Files: []string{file}, Containers: []bundle.Container{{Name: "app", Image: "app:1", Definition: bundle.DigestBytes([]byte(text))}}}
		start, unit.OnChange = "/usr/bin/docker compose --project-name "+project+" up -d\nType=oneshot\nRemainAfterExit=yes", bundle.None
	}

	unit.Files = []string{bundle.UnitDir + "/" + unit.Name}
	unit.Triggers = []string{"file:" + unit.Files[0]}
	l.file(unit.Files[0], "[Service]\nExecStart="+start+"\n[Install]\nWantedBy=multi-user.target\n")
	for i := range l.Files {
		l.Files[i].Service = service
	}
	l.Units, l.Services = append(l.Units, unit), append(l.Services, s)
	return l
}

// A project may go from a service to another, a service to another project, and to a unit and back. What
// ran before never runs beside what comes, nothing that is wanted is removed, and a run that fails after
// it started all leaves what ran.
func TestTwinStackMoves(t *testing.T) {
	for name, c := range map[string]struct {
		from, to       func() *load
		before, after  string
		active, gone   string // units, when it is done
		keepsNoVolumes bool
	}{
		"the service is renamed, its project kept": {
			from: func() *load { return projectLoad("wiki", "wiki", "one") }, to: func() *load { return projectLoad("docs", "wiki", "two") },
			before: "wiki running", after: "wiki running", active: "docs.service", gone: "wiki.service", keepsNoVolumes: true},
		"another project": {
			from: func() *load { return projectLoad("bot", "bot", "one") }, to: func() *load { return projectLoad("bot", "bot2", "two") },
			before: "bot running", after: "bot2 running", active: "bot.service"},
		"a unit in place of a project": {
			from: func() *load { return projectLoad("bot", "bot", "one") }, to: func() *load { return projectLoad("bot", "", "two") },
			before: "bot running", after: "", active: "bot.service"},
		"a project in place of a unit": {
			from: func() *load { return projectLoad("bot", "", "one") }, to: func() *load { return projectLoad("bot", "bot", "two") },
			before: "", after: "bot running", active: "bot.service", keepsNoVolumes: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			d := newFakeDocker(m)
			l := c.from()
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			if got := d.runs(); got != c.before {
				t.Fatalf("containers: %q, want %q", got, c.before)
			}

			l = c.to().service("fails.service", "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
			m.ClearLog()
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
			if got := d.runs(); got != c.before {
				t.Errorf("after a run that went back: %q, want %q", got, c.before)
			}
			if was := c.from().Units[0].Name; !m.Active(was) {
				t.Errorf("%s does not run after a run that went back; jobs %q", was, m.Jobs())
			}

			l = c.to()
			got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			if runs := d.runs(); runs != c.after || !m.Active(c.active) || c.gone != "" && m.Active(c.gone) {
				t.Errorf("containers: %q, want %q; %s active: %v", runs, c.after, c.active, m.Active(c.active))
			}
			if kept := strings.Join(got.res.Kept, " "); c.keepsNoVolumes && strings.Contains(kept, "volume") {
				t.Errorf("kept = %q: what is in use is not left over", kept)
			}
			if len(d.wrong) > 0 {
				t.Errorf("beside each other: %q", d.wrong)
			}
		})
	}
}
