package state

import "bellhop/internal/bundle"

// A StackWas is a compose project as it was before the run.
type StackWas struct {
	Service    string                 `json:"service"`
	Project    string                 `json:"project"`
	Was        *bundle.ComposeProject `json:"was,omitempty"`    // as bellhop last brought it; nil: it comes with this run
	Leaves     bool                   `json:"leaves,omitempty"` // it leaves with this run: its containers go when that is done
	Up         []string               `json:"up,omitempty"`     // containers that the run makes anew, by their names in the compose file
	Restart    []string               `json:"restart,omitempty"`
	Containers []ContainerWas         `json:"containers,omitempty"`
}

// A ContainerWas is a container as it was before the run.
type ContainerWas struct {
	Name  string `json:"name"` // of the service in the compose file
	ID    string `json:"id"`
	Image string `json:"image"` // id of the image that it ran
	Ref   string `json:"ref"`   // as that image was named
	Ran   bool   `json:"ran,omitempty"`
}

// An ImageRan is the image that a container of a generation ran.
type ImageRan struct {
	Service   string `json:"service"`          // of the bundle
	Container string `json:"container"`        // of the service in the compose file
	Ref       string `json:"ref"`              // as the compose file names it
	ID        string `json:"id"`               // of the image
	Digest    string `json:"digest,omitempty"` // NAME@sha256:… where a registry has it
}
