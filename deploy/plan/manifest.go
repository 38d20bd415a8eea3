package plan

import (
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// manifestOf is the manifest of b, an empty one when b is nil.
func manifestOf(b *fleet.Bundle) bundle.Manifest {
	if b == nil {
		return bundle.Manifest{}
	}
	return b.Manifest
}
