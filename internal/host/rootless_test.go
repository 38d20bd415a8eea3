package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/usersystemd"
	"bellhop/internal/lab"
)

const (
	boxQuadlets = "/srv/box/.config/containers/systemd"
	boxWeb      = "box/web.service"
	boxData     = "box/data-volume.service"
	boxLinger   = bundle.LingerDir + "/box"
)

// rootless is a service of user box, whose own systemd has its units: a container and a volume.
func rootless(image string) *load {
	l := newLoad()
	l.file("/etc/sysusers.d/bellhop-box.conf", "g box -\nu box -:box - /srv/box -\n")
	l.file("/etc/tmpfiles.d/bellhop-box.conf", "d /srv/box 0750 box box - -\nd /srv/box/.config 0755 box box - -\nd /srv/box/.config/containers 0755 box box - -\nd "+boxQuadlets+" 0755 box box - -\n")
	l.file(boxLinger, "")
	l.file(boxQuadlets+"/web.container", "[Container]\nImage="+image+"\n[Install]\nWantedBy=default.target\n")
	l.file(boxQuadlets+"/data.volume", "[Volume]\n")
	for i := range l.Files {
		l.Files[i].Service = "box"
	}
	l.Users = append(l.Users, bundle.User{Name: "box", Group: "box", Home: "/srv/box", Service: "box"})
	l.Units = append(l.Units,
		bundle.Unit{Name: boxWeb, Service: "box", Start: true, OnChange: bundle.Restart, Files: []string{boxQuadlets + "/web.container"}},
		bundle.Unit{Name: boxData, Service: "box", OnChange: bundle.Restart, Files: []string{boxQuadlets + "/data.volume"}})
	return l
}

// rootlessTwin is a twin with all that containers of a user need.
func rootlessTwin(t *testing.T) *lab.Machine {
	t.Helper()
	m := lab.NewMachine(t.TempDir())
	for p, text := range map[string]string{
		"/usr/lib/systemd/user-generators/podman-user-generator": "", "/usr/lib/systemd/user/dbus.socket": "", "/sys/fs/cgroup/cgroup.controllers": "",
		"/usr/lib/systemd/system/systemd-logind.service": "[Service]\nExecStart=/logind\n[Install]\nWantedBy=multi-user.target\n",
		"/etc/subuid": "box:100000:65536\n", "/etc/subgid": "box:100000:65536\n",
	} {
		if err := m.Plant(p, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.Host().Systemd.Enable(t.Context(), []string{"systemd-logind.service"}), m.Start("systemd-logind.service")); err != nil {
		t.Fatal(err)
	}
	return m
}

func deployRootless(t *testing.T, m *lab.Machine, image, outcome string) told {
	t.Helper()
	l := rootless(image)
	return twinDeploy(t, m, l.offer(), l, outcome)
}

// ImageOf is what the twin's quadlet says.
func imageOf(m *lab.Machine) string {
	p, _ := os.ReadFile(m.Path(boxQuadlets + "/web.container"))
	_, rest, _ := strings.Cut(string(p), "Image=")
	image, _, _ := strings.Cut(rest, "\n")
	return image
}

// The units of a user's own systemd are started, restarted by what changes, and stopped when they leave, with
// the systemd itself; after a reboot it starts them by itself.
func TestRootless(t *testing.T) {
	m := rootlessTwin(t)
	res := deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone).res
	wantList(t, "started", res.Started, boxWeb)
	if !m.Active(boxWeb) {
		t.Fatalf("%s does not run: %v", boxWeb, m.Log())
	}

	m.ClearLog()
	res = deployRootless(t, m, "reg.example/web:2", bundle.OutcomeDone).res
	wantList(t, "restarted", res.Restarted, boxWeb)
	if n := m.Starts(boxWeb); n != 1 || imageOf(m) != "reg.example/web:2" {
		t.Errorf("%d starts with image %s, want one with web:2", n, imageOf(m))
	}

	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	if !m.Active(boxWeb) {
		t.Error("it does not run after a reboot")
	}

	gone := newLoad().file("/etc/other", "x")
	o := gone.offer()
	o.AllowPrune = true
	res = twinDeploy(t, m, o, gone, bundle.OutcomeDone).res
	wantList(t, "stopped", res.Stopped, boxWeb)
	if st := m.Unit(boxWeb); st.Exists() || st.Running() {
		t.Errorf("%s is %+v, want gone", boxWeb, st)
	}
	for _, p := range []string{boxQuadlets, boxLinger} {
		if _, err := os.Lstat(m.Path(p)); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
	if !slices.Contains(res.Kept, "home /srv/box") {
		t.Errorf("kept %q, want the home, with images and volumes", res.Kept)
	}
}

// A container that does not come up is undone: the former one runs again, and a first one leaves nothing
// that runs.
func TestRootlessUndone(t *testing.T) {
	m := rootlessTwin(t)
	m.Fail(boxWeb)
	res := deployRootless(t, m, "reg.example/web:1", bundle.OutcomeRolledBack).res
	wantList(t, "failing", res.Failing, "box")
	if _, err := os.Lstat(m.Path(boxLinger)); err == nil || m.Unit(boxWeb).Exists() {
		t.Error("the systemd of the user still runs")
	}

	m.Mend(boxWeb)
	deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	m.Fail(boxWeb)
	deployed := m.Unit(boxWeb).Invocation
	l := rootless("reg.example/web:2")
	o := l.offer()
	m.Host().Reached = func(step string) {
		if step == "undo paths" {
			m.Mend(boxWeb)
		}
	}
	twinDeploy(t, m, o, l, bundle.OutcomeRolledBack)
	if st := m.Unit(boxWeb); !st.Running() || st.Invocation == deployed || imageOf(m) != "reg.example/web:1" {
		t.Errorf("it is %s with image %s, want a new life of web:1", st.Active, imageOf(m))
	}
}

// A look finds what was stopped by hand, what failed, and what was changed in the home.
func TestRootlessLook(t *testing.T) {
	m := rootlessTwin(t)
	deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	if errs := m.Host().Systemd.Job(t.Context(), "stop", []string{boxWeb}); len(errs) > 0 {
		t.Fatal(errs)
	}
	res := deployRootless(t, m, "reg.example/web:1", bundle.OutcomeNothing).res
	wantList(t, "drifted", res.Drifted, boxWeb)
}

// What a host lacks for containers of a user is told before anything is touched, with what to type.
func TestRootlessNeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		lack func(m *lab.Machine) error
		want string
	}{
		{"podman", func(m *lab.Machine) error { m.Lack("podman"); return nil }, "podman is missing"},
		{"uidmap", func(m *lab.Machine) error { m.Lack("newuidmap"); return nil }, "apt install uidmap"},
		{"ids", func(m *lab.Machine) error {
			return errors.Join(m.Plant("/etc/subuid", "ada:100000:65536\n"), m.Plant("/etc/subgid", "box:5:10\n1000:300000:65536\n"))
		}, "echo box:365536:65536 | tee -a /etc/subuid /etc/subgid"},
		{"one file of ids", func(m *lab.Machine) error { return m.Plant("/etc/subgid", "") }, "echo box:165536:65536 | tee -a /etc/subgid)"},
		{"generator", func(m *lab.Machine) error {
			return os.Remove(m.Path("/usr/lib/systemd/user-generators/podman-user-generator"))
		}, "podman 4.4 or newer"},
		{"bus", func(m *lab.Machine) error { return os.Remove(m.Path("/usr/lib/systemd/user/dbus.socket")) }, "apt install dbus-user-session"},
		{"cgroups", func(m *lab.Machine) error { return os.Remove(m.Path("/sys/fs/cgroup/cgroup.controllers")) }, "not of version 2"},
		{"logind", func(m *lab.Machine) error { return m.Stop("systemd-logind.service") }, "systemd-logind.service is inactive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := rootlessTwin(t)
			if err := c.lack(m); err != nil {
				t.Fatal(err)
			}
			res := deployRootless(t, m, "reg.example/web:1", bundle.OutcomeRefused).res
			if !strings.Contains(res.Error, c.want) || !slices.Equal(res.Failing, []string{"box"}) {
				t.Errorf("refused, due to %q: %s; want %q", res.Failing, res.Error, c.want)
			}
			if _, err := os.Lstat(m.Path("/srv/box")); err == nil {
				t.Error("the home was made")
			}
		})
	}

	t.Run("ids by a directory service", func(t *testing.T) {
		m := rootlessTwin(t)
		if err := errors.Join(m.Plant("/etc/subuid", ""), m.Plant("/etc/nsswitch.conf", "passwd: files\nsubid: sss\n")); err != nil {
			t.Fatal(err)
		}
		deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	})
}

// Images come by the user's own podman: before anything is stopped where the user's systemd runs, and once the
// account is there otherwise. One that does not come touches nothing, or is undone.
func TestRootlessImages(t *testing.T) {
	m := rootlessTwin(t)
	e := &userPodman{m: m, broken: map[string]bool{}}
	m.Host().Programs = e
	deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	if i := slices.IndexFunc(e.pulls, func(c string) bool { return strings.HasSuffix(c, "reg.example/web:1 with no web") }); i < 0 {
		t.Errorf("pulls %q, want that of web:1 before the container runs", e.pulls)
	}

	e.broken["reg.example/web:2"] = true
	m.ClearLog()
	res := deployRootless(t, m, "reg.example/web:2", bundle.OutcomeRefused).res
	if !slices.Equal(res.Failing, []string{"box"}) || len(m.Log()) > 0 || imageOf(m) != "reg.example/web:1" {
		t.Errorf("refused due to %q (%s), after %v; want box's, with nothing touched", res.Failing, res.Error, m.Log())
	}
	for _, c := range e.asRoot {
		t.Errorf("as root: %s", c)
	}
}

// userPodman stands for podman of the users of a twin.
type userPodman struct {
	m      *lab.Machine
	broken map[string]bool
	pulls  []string
	asRoot []string
}

func (u *userPodman) Run(_ context.Context, p machine.Program) (machine.Output, error) {
	line := strings.Join(p.Argv, " ")
	a, _ := u.m.Account("box")
	isGenerator := strings.HasPrefix(line, "/usr/lib/systemd/user-generators/podman-user-generator --user --dryrun")
	switch {
	case isGenerator:
		return machine.Output{}, nil
	case !strings.HasPrefix(line, fmt.Sprintf("setpriv --reuid=%d --regid=%d --init-groups -- env -i ", a.UID, a.GID)):
		u.asRoot = append(u.asRoot, line)
	case strings.Contains(line, "podman image inspect"):
		return machine.Output{Exit: 125, Stderr: "Error: no such image\n"}, nil
	}
	ref := p.Argv[len(p.Argv)-1]
	runs := "web"
	if !u.m.Active(boxWeb) {
		runs = "no web"
	}
	u.pulls = append(u.pulls, ref+" with "+runs)
	if u.broken[ref] {
		return machine.Output{Exit: 125, Stderr: "Error: manifest unknown\n"}, nil
	}
	return machine.Output{}, nil
}

// A link in the home leads nowhere: nothing is written where the user points.
func TestRootlessLinkInTheHome(t *testing.T) {
	m := rootlessTwin(t)
	deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	evil := m.Path("/etc/evil")
	if err := errors.Join(os.RemoveAll(m.Path(boxQuadlets)), os.MkdirAll(evil, 0o755), os.Chmod(m.Path("/srv/box/.config/containers"), 0o777), os.Symlink(evil, m.Path(boxQuadlets))); err != nil {
		t.Fatal(err)
	}

	l := rootless("reg.example/web:2")
	got, err := talk(m.Host(), l.offer(), l)
	if err != nil {
		t.Fatal(err)
	}
	if got.res.Outcome == bundle.OutcomeDone || !strings.Contains(got.res.Error, boxQuadlets) {
		t.Errorf("outcome %s (%s), want a refusal that names the link", got.res.Outcome, got.res.Error)
	}
	if all, _ := os.ReadDir(evil); len(all) > 0 {
		t.Errorf("%d files were written where the link leads", len(all))
	}
}

// A run that is killed at any step ends as it was, or as it was to be.
func TestRootlessKilled(t *testing.T) {
	for n := int32(1); ; n++ {
		m := rootlessTwin(t)
		deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
		var step atomic.Int32
		var at atomic.Value
		m.Host().Reached = func(name string) {
			if step.Add(1) == n {
				at.Store(name)
				panic(killed{name})
			}
		}
		l := rootless("reg.example/web:2")
		got, err := talk(m.Host(), l.offer(), l)
		if err != nil {
			t.Fatal(err)
		}
		if at.Load() == nil {
			return
		}

		want := map[string]string{bundle.OutcomeDone: "reg.example/web:2"}[got.res.Outcome]
		if want == "" {
			want = "reg.example/web:1"
		}
		if imageOf(m) != want || !m.Active(boxWeb) {
			t.Errorf("killed at %v: %s with image %s, active %v", at.Load(), got.res.Outcome, imageOf(m), m.Active(boxWeb))
		}
	}
}

// silent is a user's systemd that does not answer.
type silent struct{ usersystemd.Opener }

func (silent) Open(context.Context, string, bool) (machine.Systemd, error) {
	return nil, errors.New("it does not answer")
}

// A user whose own systemd does not answer fails alone: it is his service that is told, and the undo ends.
func TestRootlessThatDoesNotAnswer(t *testing.T) {
	m := rootlessTwin(t)
	deployRootless(t, m, "reg.example/web:1", bundle.OutcomeDone)
	sd := m.Host().Systemd.(*usersystemd.Systemd)
	answers := sd.Users
	sd.Users = silent{answers}

	l := rootless("reg.example/web:2")
	l.file("/etc/other", "x").of("other")
	res := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack).res
	if !slices.Equal(res.Failing, []string{"box"}) || !strings.Contains(res.Error, "it does not answer") {
		t.Errorf("due to %q: %s; want box alone", res.Failing, res.Error)
	}
	if imageOf(m) != "reg.example/web:1" {
		t.Errorf("the quadlet has %s, want web:1", imageOf(m))
	}

	sd.Users = answers
	l = rootless("reg.example/web:2")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
}
