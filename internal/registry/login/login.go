// Package login reads who one is at a registry of images, and writes it as container engines read it.
//
// A login is kept in an age file, one for each registry: USER:PASSWORD in one line, or docker's own
// config.json. The package is pure, and no error of it holds a part of a secret.
package login

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A Login is a user of a registry.
type Login struct {
	Registry string // ghcr.io, registry.lan:5000; docker.io for Docker Hub
	User     string
	Password string // or a token
}

// hub is what Docker's own files call docker.io.
const hub = "https://index.docker.io/v1/"

// Hub is the registry of images that name none.
const Hub = "docker.io"

var registryName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?(:[0-9]{1,5})?$`)

// NameTrouble is what is wrong with the name of a registry; "" when nothing is.
func NameTrouble(name string) string {
	switch {
	case name == "index.docker.io" || name == "hub.docker.com" || name == "registry-1.docker.io":
		return "write docker.io for Docker Hub"
	case !registryName.MatchString(name) || !strings.ContainsAny(name, ".:") && name != "localhost":
		return "want the name that images begin with, as in ghcr.io or registry.lan:5000"
	}
	return ""
}

// Parse reads the secret of a registry.
func Parse(registry string, secret []byte) (Login, error) {
	text := strings.TrimSpace(string(secret))
	if strings.HasPrefix(text, "{") {
		return parseConfig(registry, []byte(text))
	}

	user, password, ok := strings.Cut(text, ":")
	hasBoth := ok && user != "" && password != ""
	if !hasBoth || strings.ContainsAny(text, "\n\r\x00") {
		return Login{}, errors.New("want USER:PASSWORD in one line, or docker's config.json")
	}
	return Login{registry, user, password}, nil
}

// An entry is one registry in docker's config.json.
type entry struct {
	Auth     string `json:"auth"` // USER:PASSWORD in base64
	User     string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

type config struct {
	Auths map[string]entry `json:"auths"`
}

// parseConfig reads docker's config.json, which may hold other registries too.
func parseConfig(registry string, text []byte) (Login, error) {
	var c config
	if json.Unmarshal(text, &c) != nil {
		return Login{}, errors.New("it begins like docker's config.json and is no JSON of that shape")
	}

	for _, name := range slices.Sorted(maps.Keys(c.Auths)) { // two names may mean one registry
		if bare(name) != registry {
			continue
		}

		e := c.Auths[name]
		if e.Auth == "" {
			return Parse(registry, []byte(e.User+":"+e.Password))
		}

		pair, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil || strings.HasPrefix(string(pair), "{") {
			return Login{}, fmt.Errorf("its auth of %s is no base64 of USER:PASSWORD", registry)
		}

		return Parse(registry, pair)
	}

	return Login{}, fmt.Errorf("this config.json has no login for %s: a credential helper keeps it elsewhere; write USER:PASSWORD instead", registry)
}

// bare is a registry as images name it.
func bare(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	name, _, _ = strings.Cut(name, "/")
	if name == "index.docker.io" {
		return Hub
	}
	return name
}

// Config is docker's config.json with logins, which podman reads as well. Equal logins give equal bytes.
func Config(logins []Login) []byte {
	c := config{Auths: map[string]entry{}}
	for _, l := range logins {
		e := entry{Auth: base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))}
		c.Auths[l.Registry] = e
		if l.Registry == Hub {
			c.Auths[hub] = e
		}
	}
	text, err := json.Marshal(c) // sorted by name
	if err != nil {
		panic(err) // strings always encode
	}
	return append(text, '\n')
}
