package host_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// pulls remembers which images were pulled, and what the file of --authfile held then.
type pulls struct {
	mu   sync.Mutex
	auth map[string]string
}

func (p *pulls) Run(_ context.Context, prog machine.Program) (machine.Output, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if prog.Argv[1] == "image" {
		return machine.Output{Exit: 125, Stderr: "Error: no such image\n"}, nil
	}
	if prog.Argv[1] != "pull" {
		return machine.Output{}, nil
	}
	text := ""
	for _, a := range prog.Argv {
		if file, is := strings.CutPrefix(a, "--authfile="); is {
			b, err := os.ReadFile(file)
			text = string(b)
			if err != nil {
				text = err.Error()
			}
		}
	}
	p.auth[prog.Argv[len(prog.Argv)-1]] = text
	return machine.Output{}, nil
}

// Images that the YAML of a .kube names come before anything is touched, also where the YAML alone changes, and one that never
// comes refuses the service.
func TestImagesOfPods(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &pulls{}
	pod := func(image string) *load {
		l := newLoad()
		kube := bundle.QuadletDir + "/pod.kube"
		l.file(kube, "[Kube]\nYaml=/etc/pod.yaml\n[Install]\nWantedBy=multi-user.target\n").file("/etc/pod.yaml", "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: "+image+"\n").of("pod")
		l.Units = append(l.Units, bundle.Unit{Name: "pod.service", Service: "pod", Start: true, OnChange: bundle.Restart, Files: []string{kube}, Triggers: []string{"file:" + kube, "file:/etc/pod.yaml"}})
		return l
	}
	for _, image := range []string{"r.example/a:1", "r.example/a:2"} {
		p.auth = map[string]string{}
		m.Host().Programs = p
		l := pod(image)
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
		if _, was := p.auth[image]; !was || len(p.auth) != 1 {
			t.Errorf("pulled %v, want %s alone", p.auth, image)
		}
	}

	p.auth = map[string]string{}
	built := pod("site").file("/etc/site/Containerfile", "FROM scratch\n")
	twinDeploy(t, m, built.offer(), built, bundle.OutcomeDone)
	if len(p.auth) > 0 {
		t.Errorf("pulled %v, though podman builds the image from the folder beside the YAML", p.auth)
	}

	starts := m.Starts("pod.service")
	m.Host().Programs = &engine{pulls: map[string]string{"r.example/a:3": "Error: manifest unknown"}}
	l := pod("r.example/a:3")
	res := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused).res
	if res.Refused != bundle.RefusedBundle || !strings.Contains(res.Error, "service pod: image r.example/a:3") || m.Starts("pod.service") != starts {
		t.Errorf("refused by %s: %s; %d starts, before %d", res.Refused, res.Error, m.Starts("pod.service"), starts)
	}
}

// Logins are a key that comes with the same run: the pull ahead reads it where it waits.
func TestAuthFileOfAKeyThatWaits(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &pulls{auth: map[string]string{}}
	m.Host().Programs = p
	l := newLoad()
	unit := bundle.UnitDir + "/hub-key.service"
	l.file(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/x\n")
	l.Units = append(l.Units, bundle.Unit{Name: "hub-key.service", Service: "bot", KeyUnit: true, OnChange: bundle.None, Files: []string{unit}})
	l.Keys = append(l.Keys, bundle.Key{Name: "hub", Path: bundle.KeyDir + "/hub", User: "root", Group: "root", Mode: 0o400, Service: "bot"})
	l.keys["hub"] = "logins"
	a := bundle.QuadletDir + "/a.container"
	l.file(a, "[Container]\nImage=r.example/a:1\nPodmanArgs=--authfile=/run/keys/hub\n[Install]\nWantedBy=multi-user.target\n")
	l.Units = append(l.Units, bundle.Unit{Name: "a.service", Service: "bot", Start: true, OnChange: bundle.Restart, Files: []string{a}, Triggers: []string{"file:" + a}})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if got := p.auth["r.example/a:1"]; got != "logins" {
		t.Errorf("the file of logins held %q when the image was pulled, want the key that came with the run", got)
	}
}
