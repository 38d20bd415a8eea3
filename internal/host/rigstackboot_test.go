package host_test

import (
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
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

	r.sh("systemctl kill -s KILL docker")
	took := r.allRun("5")
	t.Logf("after kill -9 of dockerd: %v", took)
	same("after kill -9 of dockerd")
	r.sh("systemctl restart docker")
	r.allRun("5")
	same("after a restart of docker")

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
