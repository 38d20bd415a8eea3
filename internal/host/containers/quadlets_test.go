package containers_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

var some = containers.Quadlets{
	"a.container":          []byte("[Container]\nImage=r/a:1\n"),
	"a.container.d/1.conf": []byte("[Container]\nImage=r/a:2\nAutoUpdate=registry\n"),
	"b.container":          []byte("[Container]\nImage=b.image\n"),
	"b.image":              []byte("[Image]\nImage=r/b:1\nTLSVerify=false\n"),
	"c.container":          []byte("[Container]\nImage=c.build\nPull=always\n"),
	"c.build":              []byte("[Build]\nImageTag=localhost/c\n"),
	"d.container":          []byte("[Container]\nImage=r/d:%i\n"),
	"e.container":          []byte("[Container]\nImage=r/e:1\nPull=newer\n"),
	"f.container":          []byte("[Container]\nImage=r/f:1\nPodmanArgs=--tls-verify=false --memory 1g --authfile /etc/auth\n[Service]\nEnvironment=REGISTRY_AUTH_FILE=/etc/other\n"),
	"g.container":          []byte("[Container]\nImage=r/g:1\n[Service]\nEnvironment=A=b REGISTRY_AUTH_FILE=/run/keys/registries\n"),
	"h.container":          []byte("[Container]\nImage=r/h:1\nPodmanArgs=--authfile=%d/auth.json --tls-verify=false --arch $ARCH\n[Service]\nEnvironment=REGISTRY_AUTH_FILE=/etc/other\n"),
	"i.container":          []byte("[Container]\nImage=i.image\n[Service]\nEnvironment=REGISTRY_AUTH_FILE=%h/auth.json\n"),
	"i.image":              []byte("[Image]\nImage=r/i:1\nAuthFile=%t/auth.json\nTLSVerify=false\n"),
	"j.container":          []byte("[Container]\nImage=r/j:1\n[Service]\nLoadCredential=auth.json:/etc/auth.json\nEnvironment=REGISTRY_AUTH_FILE=%d/auth.json\n"),
	"v.volume":             []byte("[Volume]\n"),
}

func TestImagesOfQuadlets(t *testing.T) {
	service := func(name string) string { return "of " + name }
	for _, c := range []struct {
		changed []string
		want    []containers.Image
	}{
		{[]string{"a.container.d/1.conf", "a.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/a:2", Service: "of a.container"}}},
		{[]string{"b.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/b:1", Options: []string{"--tls-verify=false"}, Service: "of b.container"}}},
		{[]string{"b.image"}, []containers.Image{{Engine: containers.Podman, Ref: "r/b:1", Options: []string{"--tls-verify=false"}, Service: "of b.image"}}},
		{[]string{"c.container", "c.build", "d.container", "v.volume", "gone.container"}, nil},
		{[]string{"f.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/f:1", Options: []string{"--tls-verify=false", "--authfile=/etc/auth"}, Service: "of f.container"}}},
		{[]string{"g.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/g:1", Options: []string{"--authfile=/run/keys/registries"}, Service: "of g.container"}}},
		{[]string{"h.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/h:1", Options: []string{"--tls-verify=false"}, Service: "of h.container"}}},
		{[]string{"i.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/i:1", Options: []string{"--tls-verify=false"}, Service: "of i.container"}}},
		{[]string{"j.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/j:1", Options: []string{}, Service: "of j.container"}}},
		{[]string{"e.container"}, []containers.Image{{Engine: containers.Podman, Ref: "r/e:1", Policy: containers.PullAlways, Service: "of e.container"}}},
	} {
		if got := some.Images(c.changed, service); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Images(%q) = %+v, want %+v", c.changed, got, c.want)
		}
	}
	if got := some.AutoUpdates([]string{"a.container", "b.container"}); !reflect.DeepEqual(got, []string{"a.container"}) {
		t.Errorf("AutoUpdates = %q", got)
	}
}

// generator fails for each file that holds "Imgae", as podman's does.
func generator(t *testing.T) *programs {
	return &programs{answer: func(_ context.Context, p machine.Program) (machine.Output, error) {
		dir := strings.TrimPrefix(p.Env[0], "QUADLET_UNIT_DIRS=")
		files, err := filepath.Glob(dir + "/*.container")
		if err != nil || len(files) == 0 {
			t.Fatalf("no quadlets in %s: %v", dir, err)
		}
		out := machine.Output{Stdout: "---a.service---\n", Stderr: "quadlet-generator[7]: Loading source unit file " + files[0] + "\n"}
		for _, f := range files {
			if text, _ := os.ReadFile(f); strings.Contains(string(text), "Imgae") {
				out.Exit = 1
				out.Stderr += `quadlet-generator[7]: converting "` + filepath.Base(f) + `": unsupported key 'Imgae' in group 'Container' in ` + f + "\n"
			}
		}
		return out, nil
	}}
}

// Only what a run makes worse is held against it.
func TestValidateQuadlets(t *testing.T) {
	bad := []byte("[Container]\nImgae=x\n")
	now := containers.Quadlets{"old.container": bad, "a.container": []byte("[Container]\nImage=x\n")}
	scratch := t.TempDir()
	if errs, err := containers.Validate(t.Context(), generator(t), scratch, now, now); err != nil || len(errs) > 0 {
		t.Errorf("what is there already is held against the run: %v, %v", errs, err)
	}

	next := containers.Quadlets{"old.container": bad, "a.container": bad}
	errs, err := containers.Validate(t.Context(), generator(t), scratch, now, next)
	want := `converting "a.container": unsupported key 'Imgae' in group 'Container' in /etc/containers/systemd/a.container`
	if err != nil || len(errs) != 1 || errs[0].Name != "a.container" || errs[0].Text != want {
		t.Errorf("Validate = %+v, %v", errs, err)
	}
	if left, _ := os.ReadDir(scratch); len(left) > 0 {
		t.Errorf("left in the scratch folder: %v", left)
	}
}

func TestReadQuadlets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range some {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := containers.ReadQuadlets(dir); !reflect.DeepEqual(got, some) {
		t.Errorf("ReadQuadlets = %q", got)
	}
}
