package plan

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

func wikiBundle(image, volume string) *fleet.Bundle {
	return &fleet.Bundle{Manifest: bundle.Manifest{Services: []bundle.Service{{Name: "wiki", Compose: &bundle.ComposeProject{
		Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"},
		Containers: []bundle.Container{{Name: "app", Image: image, Definition: image, Volumes: []string{volume + ":/data"}}, {Name: "web", Image: "web:1", Definition: "w", RestartWith: []string{"app"}}},
		Volumes:    []bundle.ComposeVolume{{Key: volume, Name: "wiki_" + volume, Definition: "v"}},
	}}}}}
}

// A plan names the containers that change, and why.
func TestPlanNamesContainers(t *testing.T) {
	old, next := wikiBundle("app:1", "data"), wikiBundle("app:2", "data")
	var all changes
	c := all.of("digest", &old.Manifest, next)
	h := &HostPlan{Name: "a", Push: true, Changes: c.changes, Units: c.units, Containers: c.containers, Old: &old.Manifest, Bundle: next}

	var b strings.Builder
	if err := h.write(&b, nil); err != nil {
		t.Fatal(err)
	}
	want := "a\n  ~ compose project wiki\n  recreate container app of wiki: image app:2, was app:1\n  restart container web of wiki: it restarts with app\n\n"
	if b.String() != want {
		t.Errorf("the plan is\n%s\nwant\n%s", b.String(), want)
	}

	p := &Plan{Hosts: []*HostPlan{h}, Fleet: &fleet.Fleet{}}
	if got := p.Sentence(); !strings.Contains(got, "1 container restarts, 1 container changes") {
		t.Errorf("Sentence = %q", got)
	}
	if c.volumes != "" {
		t.Errorf("it asks for consent: %s", c.volumes)
	}
}

// A push that would leave data behind needs a person's consent, by flag or by trailer.
func TestNewVolumesNeedConsent(t *testing.T) {
	old, next := wikiBundle("app:1", "data"), wikiBundle("app:1", "stuff")
	var all changes
	c := all.of("digest", &old.Manifest, next)
	if want := "wiki: volume wiki_data would be left behind, and wiki_stuff begin empty"; c.volumes != want {
		t.Errorf("volumes = %q, want %q", c.volumes, want)
	}

	for message, want := range map[string]bool{
		"Bellhop-Allow: new-volumes a":    true,
		"Bellhop-Allow: new-volumes *":    true,
		"Bellhop-Allow: new-volumes b":    false,
		"Bellhop-Allow: prune a":          false,
		"Bellhop-Allow: new-volumes":      false,
		"nothing is allowed: all as ever": false,
	} {
		if got := allows(consents("change\n\n"+message+"\n", AllowVolumes), "a"); got != want {
			t.Errorf("%q allows new volumes of a: %v, want %v", message, got, want)
		}
	}
	if got := UnknownConsents("change\n\nBellhop-Allow: new-volumes a\nBellhop-Allow: volumes a\n"); len(got) != 1 || got[0] != "volumes a" {
		t.Errorf("unknownConsents = %q, want the one that allows nothing", got)
	}
}
