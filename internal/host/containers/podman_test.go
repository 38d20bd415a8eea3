package containers_test

import (
	"context"
	"testing"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// What podman makes for a pod by itself has an image of podman's, or none at all: newer ones run it from a folder. It is
// none of the unit's, and an engine that is asked for the image "" tells of no image.
func TestContainersOfAPodHaveImages(t *testing.T) {
	p := &programs{answer: func(context.Context, machine.Program) (machine.Output, error) {
		return machine.Output{Stdout: `{"ID":"a","Image":"","Ref":"","Status":"running","Unit":"pod.service","Name":"pod-infra"}` + "\n" +
			`{"ID":"b","Image":"p","Ref":"localhost/podman-pause:5.4.2-0","Status":"running","Unit":"pod.service","Name":"old-infra"}` + "\n" +
			`{"ID":"c","Image":"i","Ref":"r/c:1","Status":"running","Unit":"pod.service","Name":"pod-c"}` + "\n"}, nil
	}}
	all, err := containers.Engine{Programs: p, Name: containers.Podman}.OfUnits(t.Context(), []string{"pod.service"})
	if err != nil || len(all) != 1 || all[0].ID != "c" || all[0].Service != "pod.service" {
		t.Errorf("OfUnits = %+v, %v; want the container c alone", all, err)
	}
}
