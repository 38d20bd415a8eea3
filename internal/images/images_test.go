package images_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/images"
	"bellhop/internal/link"
	"bellhop/internal/registry"
)

func sha(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }

// What a host says is joined to what the repo names, and each tag is asked for once.
func TestImages(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked++
		if strings.Contains(req.URL.Path, "none") {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("Docker-Content-Digest", sha("b"))
	}))
	defer s.Close()
	reg := strings.TrimPrefix(s.URL, "http://")

	m := &bundle.Manifest{Host: "chrysalis", Files: []bundle.File{{Path: bundle.QuadletDir + "/q.container", Digest: "q", Service: "quad"}, {Path: "/etc/x.container", Digest: "x"}}}
	m.Services = []bundle.Service{{Name: "wiki", Compose: &bundle.ComposeProject{Project: "wiki-2", Containers: []bundle.Container{
		{Name: "app", Image: reg + "/app:1"}, {Name: "db", Image: reg + "/app:1"}, {Name: "gone", Image: reg + "/none:1"}, {Name: "built", Image: "x", Build: true}}}}}
	all, err := images.Of(m, func(string) ([]byte, error) { return []byte("[Container]\nImage=" + reg + "/q:1\n"), nil })
	if err != nil || len(all) != 4 {
		t.Fatalf("images %+v, %v", all, err)
	}

	images.Run(all, "Welcome\nc wiki-2/app "+sha("1")+"\nc wiki-2/db "+sha("2")+"\nc other/gone "+sha("3")+"\np q.service 4f5e "+sha("a")+
		"\ni "+sha("1")+" other/app@"+sha("c")+" "+reg+"/app@"+sha("a")+" \ni "+sha("2")+" "+reg+"/app@"+sha("b")+" \n")
	images.Ask(context.Background(), &registry.Client{Here: true}, all)
	images.Sort(all)
	for i, want := range []struct {
		container, running string
		isOld              bool
		err                string
	}{{"q.container", sha("a"), true, ""}, {"app", sha("a"), true, ""}, {"db", sha("b"), false, ""}, {"gone", "", false, "no such image"}} {
		got := all[i]
		if got.Container != want.container || got.Running != want.running || got.IsOld() != want.isOld || (want.err == "") != (got.Error == "") || !strings.Contains(got.Error, want.err) {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
	if asked != 3 {
		t.Errorf("registries were asked %d times, want 3", asked)
	}
}

// An image of several platforms has the digest of its index and that of its own platform, and may stand in two indexes. It is old only
// when none of them is the newest.
func TestImageOfSeveralDigests(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Docker-Content-Digest", sha("b")) }))
	defer s.Close()
	reg := strings.TrimPrefix(s.URL, "http://")
	m := &bundle.Manifest{Host: "chrysalis", Files: []bundle.File{{Path: bundle.QuadletDir + "/q.container", Digest: "q", Service: "quad"}}}
	m.Services = []bundle.Service{{Name: "wiki", Compose: &bundle.ComposeProject{Project: "wiki", Containers: []bundle.Container{{Name: "app", Image: reg + "/app:1"}}}}}

	for _, c := range []struct {
		known string
		isOld bool
	}{{sha("a") + " " + reg + "/app@" + sha("b"), false}, {sha("b") + " " + reg + "/app@" + sha("a"), false}, {sha("a") + " " + reg + "/app@" + sha("c"), true}} {
		all, err := images.Of(m, func(string) ([]byte, error) { return []byte("[Container]\nImage=" + reg + "/app:1\n"), nil })
		if err != nil {
			t.Fatal(err)
		}
		images.Run(all, "p q.service 4f5e "+sha("a")+"\nc wiki/app "+sha("1")+"\ni 4f5e "+reg+"/app@"+c.known+"\ni "+sha("1")+" "+reg+"/app@"+c.known+"\n")
		images.Ask(t.Context(), &registry.Client{Here: true}, all)
		for _, got := range all {
			if got.IsOld() != c.isOld || got.Newest != sha("b") || !c.isOld && got.Running != sha("b") {
				t.Errorf("known as %s: %+v", c.known, got)
			}
		}
	}
}

// A host that is away, and a service that can't be made, take nothing from the list of the others.
func TestReadGoesOn(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	const host = ": { address: 10.0.0.1, host_key: " + key + ", services: { wiki: true, tool: true } }\n"
	repo := fstest.MapFS{
		"bellhop.yaml":               {Data: []byte("network: n\nhosts:\n  a" + host + "  b" + strings.Replace(host, "0.1", "0.2", 1))},
		"services/wiki/compose.yaml": {Data: []byte("services: { app: { image: \"localhost/app:1\" } }\n")},
		"services/tool/service.yaml": {Data: []byte("package: { version: 1.0.0, url: \"https://example.com/{arch}.tar.gz\", sha256: { amd64: " + strings.Repeat("a", 64) + " } }\n")},
	}
	f, err := (&fleet.Loader{}).Load(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}

	all, err := images.Read(t.Context(), f, []link.Target{{Name: "a"}, {Name: "b"}}, func(_ context.Context, t link.Target, _ string) (string, error) {
		if t.Name == "a" {
			return "", errors.New("it is off")
		}
		return "c wiki/app " + sha("1") + "\ni " + sha("1") + " localhost/app@" + sha("a") + "\n", nil
	})
	if err == nil || !strings.Contains(err.Error(), "ask a for its images: it is off") || !strings.Contains(err.Error(), "architecture") {
		t.Errorf("told: %v", err)
	}
	if len(all) != 2 || all[0].Error == "" || all[1].Error != "" || all[1].Running != sha("a") {
		t.Errorf("images %+v", all)
	}
}
