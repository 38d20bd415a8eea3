package images_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/images"
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
	images.Ask(context.Background(), &registry.Client{}, all)
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
		images.Ask(t.Context(), &registry.Client{}, all)
		for _, got := range all {
			if got.IsOld() != c.isOld || got.Newest != sha("b") || !c.isOld && got.Running != sha("b") {
				t.Errorf("known as %s: %+v", c.known, got)
			}
		}
	}
}
