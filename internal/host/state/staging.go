package state

import (
	"os"
	"path/filepath"
	"strings"

	"bellhop/internal/bundle"
)

// An order is what a session leaves in the staging folder for the unit: the offer, or that
// the host is to be given back.
type Order struct {
	bundle.Offer
	GiveUp bool `json:"give_up,omitempty"`
}

// Staged is where a session puts the bytes of digest for run.
func (m Dir) Staged(run, digest string) string {
	return filepath.Join(m.At(StagingDir), run, digest)
}

// Unstage forgets what was brought under this name.
func (m Dir) Unstage(run string) { os.RemoveAll(filepath.Join(m.At(StagingDir), run)) }

// Ordered says that run was handed over, and has not ended.
func (m Dir) Ordered(run string) bool {
	_, err := os.Stat(filepath.Join(m.At(StagingDir), run, "order"))
	return err == nil
}

// RunOf is the run of a session's id, which begins with it.
func RunOf(id string) string {
	run, _, _ := strings.Cut(id, ".")
	return run
}
