package main

import (
	"strings"
	"testing"

	"bellhop/internal/page"
)

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"https://b.example.org/":      "https://b.example.org",
		"http://10.0.0.2:8081/bell//": "http://10.0.0.2:8081/bell",
	} {
		got, err := page.ParsePublicURL(text)
		if err != nil || got != want {
			t.Errorf("page.ParsePublicURL(%q) = %q, %v, want %q", text, got, err, want)
		}
	}

	for _, text := range []string{"b.example.org", "ftp://b.example.org", "https://", "https://cadey:hunter22@b.example.org", "https://b.example.org/?token=hunter22", "https://b.example.org/#hunter22"} {
		got, err := page.ParsePublicURL(text)
		if err == nil {
			t.Errorf("page.ParsePublicURL(%q) = %q, want an error", text, got)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("page.ParsePublicURL(%q): %q repeats a secret", text, err)
		}
	}
}

func TestRunURL(t *testing.T) {
	o := serveOptions{publicURL: "https://b.example.org"}
	if got, want := o.runURL("20260101-a"), "https://b.example.org/runs/20260101-a"; got != want {
		t.Errorf("runURL = %q, want %q", got, want)
	}
	if got := (&serveOptions{}).runURL("20260101-a"); got != "" {
		t.Errorf("runURL without --public-url = %q, want none", got)
	}
	if got := page.PublicHosts(o.publicURL); len(got) != 1 || got[0] != "b.example.org" {
		t.Errorf("publicHosts = %q, want b.example.org", got)
	}
}
