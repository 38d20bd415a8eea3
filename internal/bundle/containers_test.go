package bundle_test

import (
	"testing"

	"bellhop/internal/bundle"
)

func composed() bundle.Manifest {
	return bundle.Manifest{Services: []bundle.Service{{Name: "wiki", Compose: &bundle.ComposeProject{
		Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"},
		Containers: []bundle.Container{{Name: "app", Image: "app:1", Definition: "d", Files: []string{"/opt/stacks/wiki/app.conf"}}},
	}}}}
}

// What a service asks of compose is part of the digest, and a change of the service.
func TestComposeProjectCounts(t *testing.T) {
	old, image := composed(), composed()
	image.Services[0].Compose.Containers[0].Image = "app:2"

	if old.Digest() == image.Digest() {
		t.Error("another image leaves the digest as it was")
	}
	if got := bundle.Diff(old, image); len(got) != 1 || got[0].Resource() != "service:wiki" {
		t.Errorf("Diff = %v, want a change of the service", got)
	}
}

// A container of a project is found by the name that the compose file gives its service.
func TestContainerOf(t *testing.T) {
	c := composed().Services[0].Compose
	if got := c.ContainerOf("app"); got == nil || got.Image != "app:1" {
		t.Errorf("ContainerOf(app) = %v", got)
	}
	if got := c.ContainerOf("db"); got != nil {
		t.Errorf("ContainerOf(db) = %v, want none", got)
	}
}
