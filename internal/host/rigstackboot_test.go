package host_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/images"
)

// withKey is a stack one container of which mounts a key, by the short form that people write.
func withKey(s rigStack, value string) *load {
	s.more = `  vault: { image: "` + s.ref + `", command: [run, /key], restart: always, volumes: ["/run/keys/rigtoken:/key:ro"] }` + "\n"
	s.extra = []bundle.Container{{Name: "vault", Image: s.ref, Definition: "vault", Keys: []string{"rigtoken"}}}
	l := s.load()

	add := func(path, text string) {
		l.file(path, text)
		l.Files[len(l.Files)-1].Service = "wiki"
	}
	key, drop := bundle.UnitDir+"/rigtoken-key.service", bundle.UnitDir+"/wiki.service.d/50-bellhop.conf"
	add(drop, "[Unit]\nRequires=rigtoken-key.service\nAfter=rigtoken-key.service\nAssertPathExists=/run/keys/rigtoken\n")
	add(key, "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/run/keys\nBefore=shutdown.target wiki.service\nConflicts=shutdown.target\nWants=wiki.service\n"+
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -f /run/keys/rigtoken'\n")
	l.Keys = append(l.Keys, bundle.Key{Name: "rigtoken", Path: "/run/keys/rigtoken", User: "root", Group: "root", Mode: 0o400, Service: "wiki"})
	l.keys["rigtoken"] = value
	l.Units[0].Files = append(l.Units[0].Files, drop)
	l.Units = append(l.Units, bundle.Unit{Name: "rigtoken-key.service", Service: "wiki", KeyUnit: true, OnChange: bundle.None, Files: []string{key}})
	return l
}

// allRun waits until all containers of a stack run that are to, and returns how long that took.
func (r *rig) allRun(n string) time.Duration {
	r.t.Helper()
	began := time.Now()
	for time.Since(began) < 60*time.Second {
		if got, _ := r.try("docker ps -q --filter label=com.docker.compose.project=wiki | wc -l"); got == n {
			return time.Since(began)
		}
		time.Sleep(100 * time.Millisecond)
	}
	got, _ := r.try("docker ps -a; systemctl status wiki docker")
	r.t.Fatalf("not all containers run:\n%s", got)
	return 0
}

// reboot reboots the host, and waits until it is back.
func (r *rig) reboot() {
	r.t.Helper()
	const id = "cat /proc/sys/kernel/random/boot_id"
	before := r.sh(id)
	r.try("systemctl reboot")
	for range 300 {
		if now, err := r.try(id); err == nil && now != before {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	r.t.Fatal("the host does not come back")
}

// Containers are back by themselves when the engine dies, and those with a key when the key is back.
func TestRigStackAfterTheEngineAndTheHost(t *testing.T) {
	r, reg := newDockerRig(t)
	s := rigStack{ref: reg.push("tiny", "1", "1"), conf: "one"}
	r.deploy(withKey(s, "first"), bundle.OutcomeDone)
	ids := r.ids()
	same := func(when string) {
		t.Helper()
		if d := differ(ids, r.ids()); len(d) > 0 {
			t.Errorf("%s: other containers %v", when, d)
		}
	}

	began := time.Now()
	r.sh("systemctl restart docker")
	r.allRun("5")
	usual := time.Since(began)
	same("after a restart of docker")

	// A unit that waits for an engine that waits for the unit ends after two minutes. Here it takes what a restart does,
	// and 15 s where that is quick.
	r.sh("systemctl kill -s KILL docker")
	if took := r.allRun("5"); took > max(15*time.Second, 4*usual) {
		t.Errorf("containers were back %v after kill -9 of dockerd, and %v after its restart", took, usual)
	}
	same("after kill -9 of dockerd")
	life := r.started("vault")
	r.sh("kill -9 $(docker inspect -f '{{.State.Pid}}' $(docker ps -q --filter label=com.docker.compose.service=vault))")
	r.until("docker inspect -f '{{.State.Running}} {{ne .State.StartedAt \""+life+"\"}}' $(docker ps -aq --filter label=com.docker.compose.service=vault)", "true true")
	same("after kill -9 of a container")

	r.deploy(withKey(s, "second"), bundle.OutcomeDone)
	same("with a changed key")
	if said := r.said("vault"); !strings.Contains(said, "second") {
		t.Errorf("vault says %s", said)
	}

	r.reboot()
	r.want("systemctl is-active wiki", "inactive")
	l := withKey(s, "second")
	if got, err := r.session(keysOffer(l), l); err != nil || got.res.Outcome != bundle.OutcomeNothing {
		t.Fatalf("keys after a reboot: %+v, %v", got.res, err)
	}
	r.allRun("5")
	same("after a reboot")
	if said := r.said("vault"); !strings.Contains(said, "second") {
		t.Errorf("vault says %s", said)
	}
}

// A run that is killed when its containers are new already ends with those of before.
func TestRigStackKilled(t *testing.T) {
	r, reg := newDockerRig(t)
	s := rigStack{ref: reg.push("tiny", "1", "1"), conf: "one"}
	r.deploy(s.load(), bundle.OutcomeDone)
	ids := r.ids()

	next := s
	next.conf, next.args, next.appImage = "two", ", /more", reg.push("tiny", "2", "2")
	l := next.load()
	long := int64(60_000)
	l.Services[0].Settle = &long
	o := l.offer()
	o.Run = "rig-killed-" + s.conf
	end := make(chan told, 1)
	go func() {
		got, _ := r.session(o, l)
		end <- got
	}()
	r.until("docker inspect -f '{{index .Args 2}}' $(docker ps -q --filter label=com.docker.compose.service=app) 2>/dev/null", "/more")
	r.sh("systemctl kill -s KILL bellhop-apply.service")
	got := <-end
	if got.res == nil || got.res.Outcome != bundle.OutcomeRolledBack {
		t.Fatalf("result %+v", got.res)
	}
	now := r.ids()
	if d := differ(ids, now); !slices.Equal(d, []string{"app"}) || !strings.HasSuffix(now["app"], "running") || !strings.Contains(r.said("app"), `"one"`) {
		t.Errorf("other containers: %v, now %v; app says %s", d, now, r.said("app"))
	}
}

// A quadlet that can't be had, or read, touches nothing of the one that runs.
func TestRigQuadlet(t *testing.T) {
	r := newRig(t)
	if _, err := r.try("command -v podman"); err != nil {
		t.Skip("this host has no podman")
	}
	t.Cleanup(func() { r.try("podman system prune -af") })
	ip, _, _ := strings.Cut(r.sh("echo $SSH_CONNECTION"), " ")
	reg := newRegistry(t, ip)
	ref := reg.push("tiny", "1", "1")

	quadlet := func(text string) *load {
		l := newLoad()
		p := bundle.QuadletDir + "/rigpod.container"
		l.file(p, text)
		l.Files[len(l.Files)-1].Service = "rigpod"
		l.Units = append(l.Units, bundle.Unit{Name: "rigpod.service", Service: "rigpod", Start: true, OnChange: bundle.Restart, Files: []string{p}})
		return l
	}
	const text = "[Container]\nImage=IMAGE\nExec=run\n[Service]\nRestart=always\n[Install]\nWantedBy=multi-user.target\n"
	good := strings.Replace(text, "IMAGE", ref, 1)
	r.deploy(quadlet(good), bundle.OutcomeDone)
	life := r.sh("systemctl show -P InvocationID rigpod")
	l := quadlet(good)
	ran, err := images.Of(&l.Manifest, func(digest string) ([]byte, error) { return l.bytes[digest], nil })
	if err != nil || len(ran) != 1 {
		t.Fatalf("images of the bundle: %+v, %v", ran, err)
	}
	images.Run(ran, r.sh(images.Line))
	if want := reg.digest("tiny", "1"); ran[0].Running != want {
		t.Errorf("podman runs %+v, want the digest %s", ran[0], want)
	}

	reg.fails(404)
	got := r.deploy(quadlet(strings.Replace(text, "IMAGE", strings.TrimSuffix(ref, "1")+"2", 1)), bundle.OutcomeRefused)
	if got.res.Refused != bundle.RefusedBundle || !strings.Contains(got.res.Error, "has no such image") {
		t.Errorf("an image that is not there: %s, %s", got.res.Refused, got.res.Error)
	}
	reg.fails(401)
	got = r.deploy(quadlet(strings.Replace(text, "IMAGE", strings.TrimSuffix(ref, "1")+"2", 1)), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "its registry refuses") {
		t.Errorf("an image that needs a login: %s", got.res.Error)
	}
	reg.fails(0)

	got = r.deploy(quadlet(good+"[Container]\nVolume=nosuch.volume:/data\n"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "nosuch.volume was not found") || !slices.Equal(got.res.Failing, []string{"rigpod"}) {
		t.Errorf("a quadlet that podman refuses: %s, failing %q", got.res.Error, got.res.Failing)
	}
	r.want("systemctl show -P InvocationID rigpod; systemctl is-active rigpod", life+"\nactive")

	t.Run("what is built is built first", func(t *testing.T) {
		r.t = t
		built := func(file string) *load {
			l := newLoad()
			at := bundle.QuadletDir + "/rigmade"
			l.file("/opt/rigmade/Containerfile", file).of("rigmade")
			l.file("/opt/rigmade/motd", "hello").of("rigmade")
			l.file(at+".build", "[Build]\nImageTag=localhost/rigmade:1\nFile=/opt/rigmade/Containerfile\nSetWorkingDirectory=/opt/rigmade\n").of("rigmade")
			l.file(at+".container", strings.Replace(text, "IMAGE", "rigmade.build", 1)).of("rigmade")
			watched := []string{"file:/opt/rigmade/Containerfile", "file:/opt/rigmade/motd"}
			l.Units = append(l.Units, bundle.Unit{Name: "rigmade-build.service", Service: "rigmade", OnChange: bundle.Restart, Files: []string{at + ".build"}, Triggers: watched},
				bundle.Unit{Name: "rigmade.service", Service: "rigmade", Start: true, OnChange: bundle.Restart, Files: []string{at + ".container"}, Triggers: watched})
			return l
		}
		const file = "FROM IMAGE\nLABEL v=1\nCOPY motd /motd\n"
		good := strings.Replace(file, "IMAGE", ref, 1)
		got := r.deploy(built(good), bundle.OutcomeDone)
		if made, begun := slices.Index(got.events, "built"), slices.Index(got.events, "begin"); made < 0 || begun < made {
			t.Errorf("events %q, want built before begin", got.events)
		}
		life, image := r.sh("systemctl show -P InvocationID rigmade"), r.sh("podman inspect -f '{{.Image}}' systemd-rigmade")

		got = r.deploy(built(good+"COPY nosuch /x\n"), bundle.OutcomeRefused)
		if got.res.Refused != bundle.RefusedBundle || !strings.Contains(got.res.Error, "build of rigmade.build: ") || !strings.Contains(got.res.Error, "nosuch") || strings.Contains(got.res.Error, "scratch") {
			t.Errorf("a build that fails: %s, %s", got.res.Refused, got.res.Error)
		}
		reg.fails(500)
		got = r.deploy(built(strings.Replace(good, "tiny:1", "tiny:9", 1)), bundle.OutcomeRefused)
		reg.fails(0)
		if got.res.Refused != bundle.RefusedRegistry {
			t.Errorf("a base image that may come later: %s, %s", got.res.Refused, got.res.Error)
		}
		r.want("systemctl show -P InvocationID rigmade; systemctl is-active rigmade", life+"\nactive")

		r.deploy(built(strings.Replace(good, "v=1", "v=2", 1)), bundle.OutcomeDone)
		if now := r.sh("podman inspect -f '{{.Image}}' systemd-rigmade"); now == image {
			t.Errorf("the container runs the image of before")
		}
	})
}
