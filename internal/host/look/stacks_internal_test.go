package look

import (
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
)

// Each container of a compose service counts as a unit: it is listed with its state, runs, failed, or differs.
func TestContainersAreUnits(t *testing.T) {
	states := []containers.State{
		{Service: "web", Status: "running"}, {Service: "db", Status: "running", Health: "healthy"}, {Service: "sick", Status: "running", Health: "unhealthy"},
		{Service: "once", Status: "exited"}, {Service: "broken", Status: "exited", Exit: 3}, {Service: "loop", Status: "restarting"},
	}
	l := &looker{seen: &bundle.Seen{}, room: maxDriftText}
	for _, c := range []bundle.Container{{Name: "web"}, {Name: "db"}, {Name: "sick"}, {Name: "once", Once: true}, {Name: "broken", Once: true}, {Name: "loop"}, {Name: "gone"}, {Name: "shell", Idle: true}} {
		l.container("shop", &c, states)
	}

	want := map[string]string{
		"shop:web": "active running", "shop:db": "active healthy", "shop:sick": "failed unhealthy", "shop:once": "inactive exited",
		"shop:broken": "failed exited", "shop:loop": "failed restarting", "shop:gone": "missing ",
	}
	for _, u := range l.seen.Units {
		if got := u.Active + " " + u.Sub; got != want[u.Name] {
			t.Errorf("%s is %q, want %q", u.Name, got, want[u.Name])
		}
	}
	if len(l.seen.Units) != len(want) || l.seen.Running != 2 || len(l.seen.FailedUnits) != 3 || len(l.seen.Drift) != 1 {
		t.Errorf("units %+v, %d running, failed %+v, drift %+v", l.seen.Units, l.seen.Running, l.seen.FailedUnits, l.seen.Drift)
	}
}
