package unitfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/unitfile"
)

// What distributions ship is never refused: every unit file of this machine goes through.
func TestVendorUnits(t *testing.T) {
	dirs := []string{"/usr/lib/systemd/system", "/usr/lib/systemd/user", "/lib/systemd/system"}
	if more := os.Getenv("UNITFILE_VENDOR"); more != "" {
		dirs = filepath.SplitList(more) // folders of unpacked packages
	}
	count := 0
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			_, kind := unitfile.SplitName(e.Name())
			data, err := os.ReadFile(path)
			if err != nil || len(data) == 0 || kind == "wants" || kind == "d" {
				continue // a folder, or a mask
			}
			count++
			u := unitfile.Read(data)
			problems := unitfile.Check(kind, unitfile.Parse(data))
			if len(filesIn(path+".d")) == 0 { // else its drop-ins say the rest
				problems = append(problems, unitfile.CheckUnit(e.Name(), u)...)
			}
			for _, p := range problems {
				if p.Refused {
					t.Errorf("%s:%d: %s", path, p.Line, p.Message)
				} else if p.Since == 0 || p.Since > unitfile.NewestSystemd {
					t.Logf("%s:%d: %s", path, p.Line, p.Message)
				}
			}
		}
	}
	if count == 0 {
		t.Skip("no unit files on this machine")
	}
	t.Logf("%d unit files", count)
}

func filesIn(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
	return found
}

// A quadlet as podman's manual has it.
func TestQuadlets(t *testing.T) {
	for name, text := range map[string]string{
		"web.container": "[Unit]\nDescription=x\n[Container]\nImage=docker.io/library/nginx:1\nPublishPort=80:80\nVolume=data.volume:/srv\nNotify=healthy\n[Service]\nRestart=always\n[Install]\nWantedBy=multi-user.target default.target\n",
		"data.volume":   "[Volume]\nVolumeName=data\n",
		"lan.network":   "[Network]\nSubnet=10.0.0.0/24\n",
		"app.pod":       "[Pod]\nPodName=app\n",
		"k.kube":        "[Kube]\nYaml=k.yaml\n[Quadlet]\nDefaultDependencies=false\n",
		"i.image":       "[Image]\nImage=x\n",
		"b.build":       "[Build]\nImageTag=localhost/x\nSetWorkingDirectory=unit\n",
	} {
		_, kind := unitfile.SplitName(name)
		ps := append(unitfile.Check(kind, unitfile.Parse([]byte(text))), unitfile.CheckUnit(name, unitfile.Read([]byte(text)))...)
		if len(ps) > 0 {
			t.Errorf("%s: %v, want nothing", name, ps)
		}
		if got := unitfile.Read([]byte(strings.ReplaceAll(text, "Image=", "Imag="))); kind == "container" && len(unitfile.CheckUnit(name, got)) == 0 {
			t.Errorf("%s without Image= goes through", name)
		}
	}
}
