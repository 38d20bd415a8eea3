package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"bellhop/internal/bundle"
)

// A StackWas is a compose project as it was before the run, or what the quadlets of a service ran then: of those it
// has the containers alone.
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
	Name  string `json:"name"` // of the service in the compose file, or of the unit
	ID    string `json:"id"`
	Image string `json:"image"` // id of the image that it ran
	Ref   string `json:"ref"`   // as that image was named
	Ran   bool   `json:"ran,omitempty"`
}

// An ImageRan is the image that a container of a generation ran.
type ImageRan struct {
	Service   string `json:"service"`          // of the bundle
	Engine    string `json:"engine,omitempty"` // "podman" for a container of a quadlet; "" is docker
	Container string `json:"container"`        // of the service in the compose file; of a quadlet its unit, with the container's name behind a colon where there are several
	Ref       string `json:"ref"`              // as the compose file names it, or as podman does
	ID        string `json:"id"`               // of the image
	Digest    string `json:"digest,omitempty"` // NAME@sha256:… where a registry has it
}

// StacksOwed are compose projects that a run which a reboot cut off left to be put back: at boot, when that run is
// undone, no engine is there yet.
type StacksOwed struct {
	Run        string     `json:"run"`
	Generation int64      `json:"generation"` // that stood then: a later one has put them where it wants them
	Stacks     []StackWas `json:"stacks"`
}

const owedPath = bundle.StateDir + "/stacks-owed"

// OweStacks remembers stacks of a run that is about to end.
func (m Dir) OweStacks(o StacksOwed) error {
	p, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return m.replace(owedPath, p)
}

// OwedStacks are those that were remembered; nil when there are none.
func (m Dir) OwedStacks() (*StacksOwed, error) {
	p, err := os.ReadFile(m.At(owedPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var o StacksOwed
	if err := json.Unmarshal(p, &o); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", owedPath, err), m.ForgetOwed()) // it is damaged, and would be the next time
	}
	return &o, nil
}

// ForgetOwed forgets them.
func (m Dir) ForgetOwed() error { return os.Remove(m.At(owedPath)) }
