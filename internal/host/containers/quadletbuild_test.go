package containers_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// A podman of the tests prints of each .build what podman 5.4 does, and reads what a build would read.
type podman struct {
	programs
	words map[string]string // behind "podman build" of each .build
	said  map[string]string // what a failing build says, by its tag
	read  map[string]string // the file that --file names, at the time of the build, by tag
	units map[string]string // what the unit of a .build says beside its command
	hangs bool
}

func (p *podman) run(ctx context.Context, prog machine.Program) (machine.Output, error) {
	if prog.Dir != "" {
		return machine.Output{Exit: 1, Stderr: "no such folder: " + prog.Dir}, nil
	}
	if prog.Argv[0] == containers.Generator {
		dir := strings.TrimPrefix(prog.Env[0], "QUADLET_UNIT_DIRS=")
		out := ""
		for _, name := range slices.Sorted(maps.Keys(p.words)) {
			out += "---" + strings.TrimSuffix(name, ".build") + "-build.service---\n[Unit]\nSourcePath=" + dir + "/" + name + "\n[Service]\nExecStart=/usr/bin/podman build " + labelled(strings.ReplaceAll(p.words[name], "UNIT", dir)) + "\nType=oneshot\n" + p.units[name] + "\n"
		}
		return machine.Output{Stdout: out + "---a.service---\n[Service]\nExecStart=/usr/bin/podman run x\n"}, nil
	}
	if p.hangs {
		<-ctx.Done()
		return machine.Output{}, ctx.Err()
	}

	tag := prog.Argv[3] // behind --label: no image gets a name here
	if i := slices.Index(prog.Argv, "--file"); i > 0 {
		text, err := os.ReadFile(prog.Argv[i+1])
		st, _ := os.Stat(prog.Argv[i+1])
		p.read[tag] = string(text)
		if err != nil || st.Mode().Perm() != 0o640 {
			p.read[tag] = "unreadable, or of another mode"
		}
	}
	if said := p.said[tag]; said != "" {
		return machine.Output{Exit: 125, Stderr: said}, nil
	}
	return machine.Output{}, nil
}

// labelled is "--tag X …" with a label that says the same.
func labelled(words string) string {
	_, rest, _ := strings.Cut(words, " ")
	tag, _, _ := strings.Cut(rest, " ")
	return strings.Replace(words, " "+tag, " "+tag+" --label "+tag, 1)
}

// builder is a Builder whose run brings /opt/c/Containerfile and a quadlet.
func builder(t *testing.T, p *podman) (b *containers.Builder, events *[]string) {
	p.answer, p.read = p.run, map[string]string{}
	events = &[]string{}
	return &containers.Builder{Programs: p, Scratch: t.TempDir(), Root: t.TempDir(),
		Event:  func(step, text string) { *events = append(*events, step+" "+strings.Fields(text)[0]) },
		Files:  map[string]containers.Waiting{"/opt/c/Containerfile": {Mode: 0o640, Read: func() []byte { return []byte("FROM new") }}, "/opt/c/sub/x": {Mode: 0o644, Read: func() []byte { return nil }}, "/etc/containers/systemd/c.build": {Mode: 0o644, Read: func() []byte { return nil }}},
		Logins: "/run/keys/registries", LoginsNow: "/run/keys-waiting", Keys: []string{"/run/keys/registries", "/run/keys/npm"}}, events
}

// A build reads the files of the run, which are not in place yet, and finds the logins that come with it.
func TestBuildsAhead(t *testing.T) {
	p := &podman{words: map[string]string{
		"c.build":    "--tag c --authfile /run/keys/registries --file /opt/c/Containerfile /opt/c",
		"unit.build": "--tag unit UNIT",
		"git.build":  "--tag git https://git.invalid/x.git",
		"not.build":  "--tag not /opt/c",
	}}
	b, events := builder(t, p)
	q := containers.Quadlets{"c.build": []byte("[Build]\n"), "unit.build": []byte("[Build]\n"), "git.build": []byte("[Build]\n"), "not.build": []byte("[Build]\n")}
	if failed := b.Build(t.Context(), q, []string{"c.build", "git.build", "unit.build"}); len(failed) > 0 {
		t.Fatal(failed)
	}
	if p.read["c"] != "FROM new" || p.with("--authfile /run/keys-waiting --file ") != 1 {
		t.Errorf("the build read %q; calls %q", p.read["c"], p.calls)
	}
	if p.with("--tag") > 0 {
		t.Errorf("an image gets its name before the run is sure: %q", p.calls)
	}
	files := filepath.Join(b.Scratch, "files")
	if p.with("--label unit "+files+"/etc/containers/systemd") != 1 || p.with(" "+files+"/opt/c/Containerfile "+files+"/opt/c") != 1 || p.with("--label not") != 0 || p.with("git.invalid/x.git") != 1 {
		t.Errorf("calls %q", p.calls)
	}
	if want := []string{"build c.build", "built c.build", "build git.build", "built git.build", "build unit.build", "built unit.build"}; !slices.Equal(*events, want) {
		t.Errorf("events %q, want %q", *events, want)
	}
	if st, err := os.Stat(files + "/opt/c/sub"); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("a folder of the context is %v, %v", st, err)
	}
}

// What can't be tried as it will be is left to the unit.
func TestBuildsLeftToTheirUnits(t *testing.T) {
	p := &podman{words: map[string]string{
		"spec.build":  "--tag spec --build-arg=%H /opt/c",
		"mount.build": "--tag mount --volume /opt/c:/c /opt/other",
		"data.build":  "--tag data /opt/c",
		"key.build":   "--tag key --secret id=npm,src=/run/keys/npm /opt/other",
		"keys.build":  "--tag keys -v /run/keys/:/k /opt/other",
		"env.build":   "--tag env /opt/other",
		"pre.build":   "--tag pre /opt/other",
		"two.build":   "--tag two /opt/other",
		"after.build": "--tag after /opt/other",
		"drop.build":  "--tag drop /opt/other",
		"there.build": "--tag there /opt/other",
		"large.build": "--tag large /opt/large",
		"ok.build":    "--tag ok /opt/other",
	}, units: map[string]string{
		"env.build":   "Environment=HTTPS_PROXY=http://proxy:3128\n",
		"pre.build":   "ExecStartPre=/usr/bin/git clone https://git.invalid/x.git /opt/other\n",
		"two.build":   "ExecStart=/usr/bin/podman build --tag two /opt/other\n",
		"after.build": "[Unit]\nAfter=network-online.target\nAfter=env-build.service\n",
		"ok.build":    "TimeoutStartSec=1h\nEnvironment=\n[Unit]\nAfter=network-online.target\nRequiresMountsFor=/opt\n",
	}}
	b, events := builder(t, p)
	data := filepath.Join(b.Root, "opt/c/data")
	if err := errors.Join(os.MkdirAll(filepath.Dir(data), 0o755), os.WriteFile(data, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	b.Files["/etc/systemd/system/drop-build.service.d/proxy.conf"] = containers.Waiting{Mode: 0o644, Read: func() []byte { return nil }}
	there := filepath.Join(b.Root, "etc/systemd/system/there-build.service.d/proxy.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(there), 0o755), os.WriteFile(there, nil, 0o644)); err != nil {
		t.Fatal(err)
	}

	b.Files["/opt/large/iso"] = containers.Waiting{Mode: 0o644, Size: 1 << 30, Read: func() []byte { return nil }}

	failed := b.Build(t.Context(), containers.Quadlets{"x.build": nil}, slices.Sorted(maps.Keys(p.words)))
	if len(failed) > 0 || p.with("podman build") != 1 || p.with("--label ok") != 1 || len(*events) != len(p.words)+1 {
		t.Errorf("failed %v, calls %q, events %q", failed, p.calls, *events)
	}
}

// A folder is the same one with a slash behind it.
func TestBuildOfAFolderWithASlash(t *testing.T) {
	p := &podman{words: map[string]string{"c.build": "--tag c --file /opt/c/Containerfile /opt/c/"}}
	b, _ := builder(t, p)
	failed := b.Build(t.Context(), containers.Quadlets{"c.build": nil}, []string{"c.build"})
	if len(failed) > 0 || p.with(" "+filepath.Join(b.Scratch, "files/opt/c")) != 1 || p.with(" /opt/c/") != 0 {
		t.Errorf("failed %v, calls %q", failed, p.calls)
	}
}

// A build has the time that its unit would have.
func TestBuildHasTheTimeOfAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &podman{words: map[string]string{"c.build": "--tag c /opt/c"}, hangs: true}
		b, _ := builder(t, p)
		began := time.Now()
		failed := b.Build(t.Context(), containers.Quadlets{"c.build": nil}, []string{"c.build"})
		if took := time.Since(began); failed["c.build"] == nil || took != bundle.MaxStart {
			t.Errorf("it ended after %v: %v", took, failed)
		}
	})
}

// A failed build is told with podman's last words; an image that it begins with and that may come later passes.
func TestBuildsThatFail(t *testing.T) {
	p := &podman{words: map[string]string{"c.build": "--tag c /opt/c", "d.build": "--tag d /opt/d"},
		said: map[string]string{"c": "STEP 2/2: RUN make\nmake: *** no rule\x1b[2J\nError: building at STEP \"RUN make\": exit status 2\n", "d": "Error: creating build container: toomanyrequests: slow down\n"}}
	b, _ := builder(t, p)
	failed := b.Build(t.Context(), containers.Quadlets{"c.build": nil}, []string{"c.build", "d.build"})
	text := failed["c.build"].Error()
	if containers.Passes(failed["c.build"]) || !strings.HasPrefix(text, "build of c.build: STEP 2/2: RUN make; make: *** no rule") || strings.Contains(text, "\x1b") {
		t.Errorf("c.build failed with %q", text)
	}
	if !containers.Passes(failed["d.build"]) {
		t.Errorf("d.build failed with %v, which may pass", failed["d.build"])
	}

	p.hangs, b.Limit = true, time.Nanosecond
	if failed := b.Build(t.Context(), containers.Quadlets{"c.build": nil}, []string{"c.build"}); !strings.Contains(failed["c.build"].Error(), "did not deliver in time") {
		t.Errorf("a build without end: %v", failed)
	}
}
