package host_test

import (
	"slices"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// A job that its service needs, such as a migration, runs once in a deploy, and before the
// service: whichever of the two says so, and by which word.
func TestTwinJobOfAServiceRunsOnce(t *testing.T) {
	const install = "\n[Install]\nWantedBy=multi-user.target\n"
	for name, c := range map[string]struct {
		app, job string // what their [Unit] and [Install] say
		middle   bool   // another job between them
	}{
		"the service requires it":              {"Requires=job.service\nAfter=job.service", install, false},
		"the service wants it":                 {"Wants=job.service\nAfter=job.service", install, false},
		"it is required by the service":        {"", "Before=app.service\n[Install]\nRequiredBy=app.service\n", false},
		"it is wanted by the service":          {"", "Before=app.service\n[Install]\nWantedBy=app.service\n", false},
		"it only comes before the service":     {"", "Before=app.service" + install, false},
		"the service only comes after it":      {"After=job.service", install, false},
		"a job between them requires it":       {"Requires=middle.service\nAfter=middle.service", install, true},
		"nothing but their service binds them": {"", install, false},
	} {
		for _, keyed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				load := func(text string) *load {
					l := newLoad()
					gate := ""
					if keyed {
						gate = "Requires=token-key.service\nAfter=token-key.service\n"
						l.key("token", text)
						l.Files[0].Digest = bundle.DigestBytes([]byte(keyUnit))
						l.Files[0].Size = int64(len(keyUnit))
						l.bytes[l.Files[0].Digest] = []byte(keyUnit)
					}
					l.file("/etc/conf", text)
					add := func(unit, text string, oneshot bool) {
						l.service(unit, text, "file:/etc/conf")
						l.Units[len(l.Units)-1].Oneshot = oneshot
					}
					add("app.service", "[Unit]\n"+gate+c.app+"\n[Service]\nExecStart=/app\n"+install, false)
					add("job.service", "[Service]\nType=oneshot\nExecStart=/job\n[Unit]\n"+c.job, true)
					if c.middle {
						add("middle.service", "[Unit]\nRequires=job.service\nAfter=job.service\n[Service]\nType=oneshot\nExecStart=/middle\n"+install, true)
					}
					return l
				}
				m := lab.NewMachine(t.TempDir())
				for _, text := range []string{"first", "second"} {
					m.ClearLog()
					l := load(text)
					twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
					var order []string
					for _, e := range m.Log() {
						if e.Verb == "start" && (e.Unit == "app.service" || e.Unit == "job.service") || e.Verb == "restart" {
							order = append(order, e.Unit)
						}
					}
					if n := m.Starts("job.service"); n != 1 {
						t.Errorf("keyed %v, %s: the job ran %d times, log %v", keyed, text, n, m.Log())
					}
					if c.middle && m.Starts("middle.service") != 1 {
						t.Errorf("keyed %v, %s: the job between ran %d times, log %v", keyed, text, m.Starts("middle.service"), m.Log())
					}
					bound := name != "nothing but their service binds them"
					if bound && slices.Index(order, "job.service") > slices.Index(order, "app.service") {
						t.Errorf("keyed %v, %s: %v, want the job before the service", keyed, text, order)
					}
					if !m.Active("app.service") {
						t.Errorf("keyed %v, %s: the service does not run", keyed, text)
					}
				}
			})
		}
	}
}

const keyUnit = "[Unit]\nDefaultDependencies=no\nBefore=app.service\nWants=app.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e /run/keys/token'\n"
