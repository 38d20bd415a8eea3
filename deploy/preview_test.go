package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"

	"github.com/google/go-cmp/cmp"
)

// asked is what systemd was asked for, as a plan shows it: key units and bellhop's own left out.
func asked(jobs []string) plan.UnitPlan {
	p := plan.UnitPlan{Start: []string{}, Stop: []string{}, Restart: []string{}, Reload: []string{}}
	lists := map[string]*[]string{"start": &p.Start, "stop": &p.Stop, "restart": &p.Restart, "reload": &p.Reload}
	for _, job := range jobs {
		verb, name, _ := strings.Cut(job, " ")
		own := strings.HasSuffix(name, "-key.service") || strings.HasPrefix(name, "bellhop-") || name == "run-keys.mount"
		if list := lists[verb]; list != nil && !own {
			*list = append(*list, name)
		}
	}
	for _, list := range lists {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return p
}

// distribution puts a unit on a host as a package of its distribution does, and starts it.
func (w *world) distribution(host, name, text string) {
	w.t.Helper()
	m := w.machines[host]
	dir := m.Path("/usr/lib/systemd/system")
	w.must(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	for _, err := range m.Host().Systemd.Job(w.t.Context(), "start", []string{name}) {
		w.must(err)
	}
}

// The preview of a plan is what the host then asks of its systemd, over the ways in which units come,
// change and go.
func TestPreviewIsWhatTheHostDoes(t *testing.T) {
	const (
		run     = "[Service]\nExecStart=/bin/sleep 9\n"
		reloads = run + "ExecReload=/bin/true\n"
		job     = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
		install = "[Install]\nWantedBy=multi-user.target\n"
		timer   = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"
		path    = "[Path]\nPathExists=/never\n[Install]\nWantedBy=multi-user.target\n"
	)
	type files map[string]string
	for name, c := range map[string]struct {
		before, after files // of the service x; "" removes a file
	}{
		"a drop-in for sshd comes":    {files{}, files{"sshd.service.d/x.conf": "[Service]\nNice=1\n"}},
		"a drop-in for sshd changes":  {files{"sshd.service.d/x.conf": "[Service]\nNice=1\n"}, files{"sshd.service.d/x.conf": "[Service]\nNice=2\n"}},
		"a drop-in for sshd goes":     {files{"sshd.service.d/x.conf": "[Service]\nNice=1\n"}, files{"sshd.service.d/x.conf": ""}},
		"a service comes":             {files{}, files{"a.service": run + install}},
		"a service goes":              {files{"a.service": run + install}, files{"a.service": ""}},
		"a service changes":           {files{"a.service": run + install}, files{"a.service": run + "Nice=1\n" + install}},
		"its file changes":            {files{"a.service": run + install}, files{"files/etc/a": "2\n"}},
		"on_change reload":            {files{"service.yaml": "units: { a.service: { on_change: reload } }\n", "a.service": reloads + install}, files{"files/etc/a": "2\n"}},
		"on_change none":              {files{"service.yaml": "units: { a.service: { on_change: none } }\n", "a.service": run + install}, files{"files/etc/a": "2\n"}},
		"watch":                       {files{"service.yaml": "units: { a.service: { watch: [/etc/b] } }\n", "a.service": run + install, "files/etc/b": "1"}, files{"files/etc/a": "2\n"}},
		"a drop-in comes":             {files{"a.service": run + install}, files{"a.service.d/x.conf": "[Service]\nNice=1\n"}},
		"a drop-in goes":              {files{"a.service": run + install, "a.service.d/x.conf": "[Service]\nNice=1\n"}, files{"a.service.d/x.conf": ""}},
		"without [Install]":           {files{"a.service": run}, files{"a.service": run + "Nice=1\n"}},
		"[Install] comes":             {files{"a.service": run}, files{"a.service": run + install}},
		"[Install] goes":              {files{"a.service": run + install}, files{"a.service": run}},
		"[Install] changes":           {files{"a.service": run + install}, files{"a.service": run + "[Install]\nWantedBy=graphical.target\n"}},
		"enable: false":               {files{"a.service": run + install}, files{"service.yaml": "units: { a.service: { enable: false } }\n"}},
		"a job comes":                 {files{}, files{"a.service": job + install}},
		"a job changes":               {files{"a.service": job + install}, files{"a.service": job + "Nice=1\n" + install}},
		"a job's file changes":        {files{"a.service": job + install}, files{"files/etc/a": "2\n"}},
		"a job that does not change":  {files{"a.service": job + install, "b.service": run + install, "service.yaml": "units: { a.service: { watch: [/etc/b] } }\n", "files/etc/b": "1"}, files{"files/etc/a": "2\n"}},
		"a job that remains":          {files{"a.service": job + "RemainAfterExit=yes\n" + install}, files{"files/etc/a": "2\n"}},
		"a service becomes a job":     {files{"a.service": run + install}, files{"a.service": job + install}},
		"a timer comes":               {files{"a.service": job}, files{"a.timer": timer}},
		"a timer changes":             {files{"a.service": job, "a.timer": timer}, files{"a.timer": strings.Replace(timer, "daily", "hourly", 1)}},
		"a timer's service changes":   {files{"a.service": job, "a.timer": timer}, files{"a.service": job + "Nice=1\n"}},
		"a timer goes":                {files{"a.service": job, "a.timer": timer}, files{"a.timer": ""}},
		"a path unit":                 {files{"a.service": job, "a.path": path}, files{"files/etc/a": "2\n"}},
		"an instance comes":           {files{"a@.service": run + install, "service.yaml": "units: { a@.service: { instances: [one] } }\n"}, files{"service.yaml": "units: { a@.service: { instances: [one, two] } }\n"}},
		"an instance goes":            {files{"a@.service": run + install, "service.yaml": "units: { a@.service: { instances: [one, two] } }\n"}, files{"service.yaml": "units: { a@.service: { instances: [one] } }\n"}},
		"a template changes":          {files{"a@.service": run + install, "service.yaml": "units: { a@.service: { instances: [one, two] } }\n"}, files{"a@.service": run + "Nice=1\n" + install}},
		"two services, one unchanged": {files{"a.service": run + install, "b.service": run + install, "service.yaml": "units: { b.service: { watch: [/etc/b] } }\n", "files/etc/b": "1"}, files{"a.service": run + "Nice=1\n" + install}},
		"all at once": {files{"a.service": run + install, "b.service": job + install, "c.service": reloads + install, "service.yaml": "units: { c.service: { on_change: reload } }\n"},
			files{"a.service": "", "d.service": run + install, "files/etc/a": "2\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.host("h", "web", "x")
			w.distribution("h", "sshd.service", run)
			w.files["services/x/files/etc/a"] = "1\n"
			put := func(fs files) {
				for p, text := range fs {
					w.files["services/x/"+p] = text
					if text == "" {
						delete(w.files, "services/x/"+p)
					}
				}
			}
			put(c.before)
			w.push("before", history.OutcomeDone)

			put(c.after)
			w.commit("after")
			p, err := w.d.Plan(t.Context(), plan.Request{Cause: "plan"})
			w.must(err)
			preview := plan.UnitPlan{Start: []string{}, Stop: []string{}, Restart: []string{}, Reload: []string{}}
			for _, h := range p.Hosts {
				if h.Push {
					preview = h.Units
				}
			}

			w.machines["h"].ClearLog()
			w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
			if diff := cmp.Diff(preview, asked(w.machines["h"].Jobs())); diff != "" {
				t.Errorf("the plan (-) and what the host asked of systemd (+) differ:\n%s\nall jobs: %q", diff, w.machines["h"].Jobs())
			}
		})
	}
}
