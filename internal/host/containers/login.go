package containers

import (
	"errors"
	"os"
	"path/filepath"
)

// userPlugins is where plugins stand that were installed for root alone.
const userPlugins = "/root/.docker/cli-plugins"

// Logins is the environment in which an engine finds the logins in file, docker's config.json. Only pulls and builds
// get it: what runs needs no login. docker looks for a folder of its settings, which is made at dir, with root's
// plugins, compose perhaps among them, and nothing else of root's; one that is there already stays.
func Logins(engine, file, dir string) ([]string, error) {
	if engine == Podman {
		return []string{"REGISTRY_AUTH_FILE=" + file}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, link := range [][2]string{{file, "config.json"}, {userPlugins, "cli-plugins"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	return []string{"DOCKER_CONFIG=" + dir}, nil
}
