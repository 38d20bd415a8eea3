package check

import (
	"fmt"
	"path"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/nameshape"
)

// What becomes an argument of docker must not look like an option of it.
var (
	projectName   = nameshape.New("a-z0-9", "a-z0-9_-", 63)
	containerName = nameshape.New("A-Za-z0-9", "A-Za-z0-9._-", 128)
	imageRef      = nameshape.New("A-Za-z0-9", "A-Za-z0-9._:/@-", 512)
	pullPolicies  = map[string]bool{"": true, "missing": true, "if_not_present": true, "always": true, "never": true, "build": true}
)

const (
	maxContainers = 500
	maxFilesOf    = 5000 // of one container
)

// checkStack says what is wrong with a compose project.
func checkStack(c *bundle.ComposeProject) error {
	switch {
	case !projectName.MatchString(c.Project):
		return fmt.Errorf("compose project %q", c.Project)
	case len(c.Files) == 0 || len(c.Containers) > maxContainers:
		return fmt.Errorf("a compose project of %d files and %d containers", len(c.Files), len(c.Containers))
	}

	for _, p := range append(append([]string{c.Dir}, c.Files...), c.Env...) {
		if err := absolute(p); err != nil {
			return err
		}
	}
	for i := range c.Containers {
		if err := checkContainer(&c.Containers[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkContainer(c *bundle.Container) error {
	hasTooMuch := len(c.Files) > maxFilesOf || len(c.Inputs) > maxFilesOf
	switch {
	case !containerName.MatchString(c.Name):
		return fmt.Errorf("container %q", c.Name)
	case c.Image != "" && !imageRef.MatchString(c.Image), c.Image == "" && !c.Build:
		return fmt.Errorf("image %q", c.Image)
	case !pullPolicies[c.Pull]:
		return fmt.Errorf("pull policy %q", c.Pull)
	case hasTooMuch || c.Scale < 0 || c.Scale > maxContainers:
		return fmt.Errorf("container %s has too much of something", c.Name)
	}
	return nil
}

func absolute(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.ContainsAny(p, "\x00\n") {
		return fmt.Errorf("path %q", p)
	}
	return nil
}
