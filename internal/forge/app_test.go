package forge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"bellhop/internal/forge"
	"bellhop/internal/forge/fakeforge"
)

func pemOf(kind string, der []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil }
}

// appKey is a key as GitHub has it downloaded.
func appKey(t *testing.T) (*rsa.PrivateKey, func() ([]byte, error)) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

// An App logs in by tokens that it asks for, and asks again when one is about to end.
func TestGitHubApp(t *testing.T) {
	key, text := appKey(t)
	f := fakeforge.New("github")
	defer f.Close()
	f.App("12345", &key.PublicKey)

	c, err := forge.New(forge.Config{Kind: forge.GitHub, URL: f.API(), Repo: fakeforge.Repo, App: &forge.App{ID: "12345", Key: text}})
	if err != nil {
		t.Fatal(err)
	}
	set := func(state forge.State) {
		t.Helper()
		if err := c.SetStatus(t.Context(), commit, forge.Status{State: state, Context: "bellhop/lab"}); err != nil {
			t.Fatalf("SetStatus: %v; faults: %q", err, f.Faults())
		}
	}
	set(forge.Pending)
	set(forge.Success)
	if n := f.Tokens(); n != 1 || f.Last(commit).State != "success" {
		t.Errorf("%d tokens for two statuses, want one; the last is %+v", n, f.Last(commit))
	}

	f.TokensEndSoon()
	c, _ = forge.New(forge.Config{Kind: forge.GitHub, URL: f.API(), Repo: fakeforge.Repo, App: &forge.App{ID: "12345", Key: text}})
	set(forge.Pending)
	set(forge.Success)
	if n := f.Tokens(); n != 3 {
		t.Errorf("%d tokens, want one more for each status, as each ends soon", n)
	}
	if faults := f.Faults(); len(faults) > 0 {
		t.Errorf("requests that GitHub does not take: %q", faults)
	}
}

// A proof by another key gets no token, and neither key nor proof is in the error.
func TestGitHubAppOfAnotherKey(t *testing.T) {
	key, _ := appKey(t)
	_, other := appKey(t)
	f := fakeforge.New("github")
	defer f.Close()
	f.App("12345", &key.PublicKey)

	c, err := forge.New(forge.Config{Kind: forge.GitHub, URL: f.API(), Repo: fakeforge.Repo, App: &forge.App{ID: "12345", Key: other}})
	if err != nil {
		t.Fatal(err)
	}
	err = c.SetStatus(t.Context(), commit, forge.Status{State: forge.Success, Context: "bellhop/lab"})
	if err == nil || !strings.Contains(err.Error(), "log in as the GitHub App") || strings.Contains(err.Error(), "eyJ") {
		t.Errorf("SetStatus by another key: %v", err)
	}
	if len(f.Statuses()) > 0 {
		t.Error("the status was set")
	}
}

func TestGitHubAppIsChecked(t *testing.T) {
	_, good := appKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}

	for what, app := range map[string]forge.App{
		"an id with a slash": {ID: "1/2", Key: good},
		"no id":              {Key: good},
		"no PEM":             {ID: "1", Key: func() ([]byte, error) { return []byte("x"), nil }},
		"an EC key":          {ID: "1", Key: pemOf("PRIVATE KEY", der)},
		"a broken key":       {ID: "1", Key: pemOf("RSA PRIVATE KEY", []byte("x"))},
	} {
		if err := app.Check(); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if err := (&forge.App{ID: "Iv1.abc", Key: good}).Check(); err != nil {
		t.Errorf("a client id: %v", err)
	}
	if _, err := forge.New(forge.Config{Kind: forge.Gitea, URL: "https://git.example.org", Repo: "a/b", App: &forge.App{ID: "1", Key: good}}); err == nil {
		t.Error("a GitHub App was taken for Gitea")
	}
}
