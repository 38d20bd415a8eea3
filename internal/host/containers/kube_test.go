package containers_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/host/containers"
)

const kubeText = `# image: not/this:1
apiVersion: v1
kind: ConfigMap
data:
  compose: |
    spec:
      containers:
      - image: not/this:2

      - image: not/this:3
  image: not/this:4
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    metadata:
      annotations: { image: not/this:5 }
    spec:
      initContainers:
      - {name: init, image: "r/init:1"} # first
      containers:
      - args:
        - image: not/this:6
        image: r/a:1 # the first
        imagePullPolicy: Always
        env:
        - name: image
          value: not/this:7
      -   name: b
          imagePullPolicy: "Never"
          image: 'r/b@sha256:0123'
      - name: again
        image: r/a:1
        imagePullPolicy: Always
      volumes:
      - name: v
        image:
          reference: not/this:8
---
kind: Pod
spec:
    containers:
        -
          name: c
          image: localhost:5000/c
        - { name: d, image: r/d:1, ports: [{ containerPort: 1 }] }
        - name: e
          image: ${E}
`

// Images of a pod's containers are found, and nothing else that is called so.
func TestKubeImages(t *testing.T) {
	podman := func(ref, policy string) containers.Image {
		return containers.Image{Engine: containers.Podman, Ref: ref, Policy: policy}
	}
	want := []containers.Image{podman("r/init:1", ""), podman("r/a:1", containers.PullAlways), podman("r/b@sha256:0123", containers.PullNever), podman("localhost:5000/c", "")}
	if got := containers.KubeImages([]byte(kubeText)); !reflect.DeepEqual(got, want) {
		t.Errorf("KubeImages = %+v\nwant %+v", got, want)
	}
}

func TestKubeYaml(t *testing.T) {
	q := containers.Quadlets{"a.kube": []byte("[Kube]\nYaml=pod.yaml\n"), "b.kube": []byte("[Kube]\nYaml=/etc/b/../pod.yaml\n"), "c.kube": []byte("[Kube]\nYaml=%h/pod.yaml\n")}
	for name, want := range map[string]string{"a.kube": "/dir/pod.yaml", "b.kube": "/etc/pod.yaml", "c.kube": "", "none.kube": ""} {
		if got := q.Yaml(name, "/dir"); got != want {
			t.Errorf("Yaml(%s) = %q, want %q", name, got, want)
		}
	}
}

// A user may own the YAML that a .kube file names: what root would wait for, or read without end, is left alone.
func TestReadYaml(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("#"), size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("most", 1<<20)
	write("more", 1<<20+1)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"most": 1 << 20, "more": 0, "pipe": 0, "none": 0, ".": 0} {
		if got := len(containers.ReadYaml(filepath.Join(dir, name))); got != want {
			t.Errorf("ReadYaml(%s) has %d bytes, want %d", name, got, want)
		}
	}
}

// podman kube play builds an image from the folder of its name, where the unit runs in the folder around that: no
// registry has such an image.
func TestImagesThatPodmanBuildsForAPod(t *testing.T) {
	q := containers.Quadlets{"a.kube": []byte("[Kube]\nYaml=/srv/a/pod.yaml\nSetWorkingDirectory=/srv/other\n")}
	yaml := []byte("containers:\n- image: site\n- image: localhost/api:1\n- image: db@sha256:01\n- image: r/bare:1\n- image: r/far:1\n")
	there := []string{"/srv/a/site/Containerfile", "/srv/other/api/Dockerfile", "/etc/containers/systemd/db/Containerfile", "/srv/a/bare/README", "/far/Containerfile"}
	var refs []string
	for _, i := range q.Pods("a.kube", "/srv/a/pod.yaml", yaml, func(p string) bool { return slices.Contains(there, p) }) {
		refs = append(refs, i.Ref)
	}
	if want := []string{"r/bare:1", "r/far:1"}; !slices.Equal(refs, want) {
		t.Errorf("Pods has %q, want %q", refs, want)
	}
}

func FuzzKubeImages(f *testing.F) {
	f.Add([]byte(kubeText))
	f.Add([]byte("containers:\n- {image: a\n-\n- image: |\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, i := range containers.KubeImages(text) {
			if i.Ref == "" || len(i.Ref) > len(text) {
				t.Errorf("image %q of %q", i.Ref, text)
			}
		}
	})
}
