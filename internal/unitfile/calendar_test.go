package unitfile_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"bellhop/internal/unitfile"
)

// calendarVectors are what systemd-analyze calendar said, recorded.
func calendarVectors(t testing.TB) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("testdata/calendar.txt")
	if err != nil {
		t.Fatal(err)
	}
	vectors := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		verdict, spec, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if verdict != "#" {
			vectors[spec] = verdict == "ok"
		}
	}
	return vectors
}

func TestCalendar(t *testing.T) {
	vectors := calendarVectors(t)
	if len(vectors) < 200 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for spec, ok := range vectors {
		if err := unitfile.CheckCalendar(spec); (err == nil) != ok {
			t.Errorf("CheckCalendar(%q) = %v, systemd takes it: %v", spec, err, ok)
		}
	}
}

// The recorded vectors are those of the systemd of this machine.
func TestCalendarAsSystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: compared where it is")
	}
	if testing.Short() {
		t.Skip("hundreds of processes")
	}
	n := 0
	for spec, want := range calendarVectors(t) {
		if n++; n > 150 {
			break // of a map: others each time
		}
		ok := exec.Command(tool, "calendar", "--", spec).Run() == nil
		if ok != want {
			t.Errorf("systemd-analyze calendar %q: %v, recorded %v", spec, ok, want)
		}
	}
}

func FuzzCalendar(f *testing.F) {
	for spec := range calendarVectors(f) {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		if unitfile.CheckCalendar(spec) == nil && len(spec) > 2048 {
			t.Errorf("CheckCalendar takes %d bytes", len(spec))
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("service", "[Service]\nExecStart=/bin/true\nRestart=on-failur\n[Instal]\nWantedBy=x\n")
	f.Add("timer", "[Timer]\nOnCalendar=Mon..Fri 10:00/5\nRandomizedDelaySec=5m\n")
	f.Add("socket", "[Socket]\nListenStream=[::]:80\n")
	f.Add("container", "[Container]\nImage=x\n[Quadlet]\n")
	f.Fuzz(func(t *testing.T, kind, text string) {
		file := unitfile.Parse([]byte(text))
		for _, p := range unitfile.Check(kind, file) {
			if p.Line < 1 || p.Message == "" || len(p.Message) > 4096 {
				t.Errorf("problem %+v of %q", p, text)
			}
		}
		unitfile.CheckUnit("x."+kind, unitfile.Read([]byte(text)))
		u := unitfile.Read([]byte(text))
		u.Activates("x." + kind)
		u.Generated("x.container")
	})
}
