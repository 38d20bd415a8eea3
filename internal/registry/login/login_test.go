package login_test

import (
	"encoding/json"
	"strings"
	"testing"

	"bellhop/internal/registry/login"
)

func TestParse(t *testing.T) {
	want := login.Login{Registry: "ghcr.io", User: "cadey", Password: "to:ken"}
	for _, secret := range []string{
		"cadey:to:ken", "cadey:to:ken\n",
		`{"auths": {"docker.io": {"auth": "eDp5"}, "ghcr.io": {"auth": "Y2FkZXk6dG86a2Vu"}}}`,
		`{"auths": {"https://ghcr.io/v2/": {"username": "cadey", "password": "to:ken"}}}`,
	} {
		if got, err := login.Parse("ghcr.io", []byte(secret)); err != nil || got != want {
			t.Errorf("Parse(%s) = %v, %v", secret, got, err)
		}
	}

	hub, err := login.Parse("docker.io", []byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "eDp5"}}}`))
	if err != nil || hub.User != "x" || hub.Password != "y" {
		t.Errorf("Docker Hub's login is %v, %v", hub, err)
	}
}

// What can't be a login is told without a word of it.
func TestParseTrouble(t *testing.T) {
	for secret, want := range map[string]string{
		"":              "want USER:PASSWORD",
		"sesameopen":    "want USER:PASSWORD",
		":sesameopen":   "want USER:PASSWORD",
		"sesameopen:":   "want USER:PASSWORD",
		"a:b\nsesame:c": "want USER:PASSWORD",
		"{sesameopen":   "no JSON",
		`{"auths": []}`: "no JSON",
		`{"auths": {}}`: "no login for ghcr.io",
		`{"auths": {"ghcr.io": {"auth": "sesameopen!"}}}`:        "no base64",
		`{"auths": {"ghcr.io": {"auth": "e3Nlc2FtZW9wZW4="}}}`:   "no base64", // {sesameopen
		`{"auths": {"ghcr.io": {"username": "sesameopen"}}}`:     "want USER:PASSWORD",
		`{"auths": {"ghcr.io": {}}, "credsStore": "sesameopen"}`: "want USER:PASSWORD",
	} {
		_, err := login.Parse("ghcr.io", []byte(secret))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("Parse(%q) = %v, want %s", secret, err, want)
		}
	}
}

func TestConfig(t *testing.T) {
	got := string(login.Config([]login.Login{{Registry: "ghcr.io", User: "cadey", Password: "to:ken"}, {Registry: "docker.io", User: "x", Password: "y"}}))
	want := `{"auths":{"docker.io":{"auth":"eDp5"},"ghcr.io":{"auth":"Y2FkZXk6dG86a2Vu"},"https://index.docker.io/v1/":{"auth":"eDp5"}}}` + "\n"
	if got != want {
		t.Errorf("Config is %s, want %s", got, want)
	}
}

func TestNameTrouble(t *testing.T) {
	for _, name := range []string{"ghcr.io", "docker.io", "localhost", "localhost:5000", "registry.lan:5000", "10.0.0.1:5000"} {
		if bad := login.NameTrouble(name); bad != "" {
			t.Errorf("%s: %s", name, bad)
		}
	}
	for _, name := range []string{"", "ghcr", "https://ghcr.io", "ghcr.io/org", "hub.docker.com", "index.docker.io", "GHCR.io", "a..b", "-a.b", "a.b:", "a.b:123456"} {
		if login.NameTrouble(name) == "" {
			t.Errorf("%q is taken for a registry", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("cadey:token")
	f.Add(`{"auths": {"ghcr.io": {"auth": "Y2FkZXk6dG86a2Vu"}}}`)
	f.Add(`{"auths": {"ghcr.io": {"auth": "ezp9"}}}`)
	f.Fuzz(func(t *testing.T, secret string) {
		got, err := login.Parse("ghcr.io", []byte(secret))
		if err != nil {
			return
		}
		text := login.Config([]login.Login{got})
		again, err := login.Parse("ghcr.io", text)
		if !json.Valid(text) || err != nil || again != got {
			t.Errorf("%q is %v; what is written of it is %s, which is %v, %v", secret, got, text, again, err)
		}
	})
}
