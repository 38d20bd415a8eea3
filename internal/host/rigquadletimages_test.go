package host_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
)

// podmanLoad is a service with one quadlet.
func podmanLoad(ref, label string) *load {
	l := newLoad()
	f := bundle.QuadletDir + "/rigquad.container"
	l.file(f, "[Container]\nImage="+ref+"\nExec=run\nLabel=of="+label+"\n[Install]\nWantedBy=multi-user.target\n").of("quad")
	l.Units = append(l.Units, bundle.Unit{Name: "rigquad.service", Service: "quad", Start: true, OnChange: bundle.Restart, Files: []string{f}, Triggers: []string{"file:" + f}})
	return l
}

// A tag moves while its quadlet runs. What goes back, by itself or by a person, runs the image that ran, which "podman image
// prune" leaves.
func TestRigImagesOfQuadlets(t *testing.T) {
	r, reg := newDockerRig(t)
	t.Cleanup(func() { r.try("podman rmi -af") })
	ref := reg.push("tiny", "1", "1")
	runs := func() string {
		return strings.TrimPrefix(r.sh("podman ps --no-trunc --format '{{.ImageID}}'"), "sha256:")
	}

	l := podmanLoad(ref, "one")
	first := l.offer()
	r.deployOffer(first, l, bundle.OutcomeDone)
	one := runs()

	reg.push("tiny", "1", "2")
	r.sh("podman pull -q " + ref)
	bad := podmanLoad(ref, "bad").service("rigbad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
	r.deploy(bad, bundle.OutcomeRolledBack)
	if got := runs(); got != one {
		t.Errorf("after a run that went back %s runs, want %s", got, one)
	}

	r.sh("podman pull -q " + ref)
	r.deploy(podmanLoad(ref, "two"), bundle.OutcomeDone)
	if runs() == one {
		t.Fatal("the image that the tag was moved to does not run")
	}
	r.sh("podman image prune -f; podman image inspect " + one)

	o := first
	o.Run, o.Base, o.NoBefore = fmt.Sprintf("rig-back-%d", time.Now().UnixNano()), -1, true
	r.deployOffer(o, podmanLoad(ref, "one"), bundle.OutcomeDone)
	if got := runs(); got != one {
		t.Errorf("after a rollback %s runs, want %s", got, one)
	}
}
