package commits

import (
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// ForTest is b with its NixOS system to run until the next boot, as a testing branch asks: the profile stays as it is.
func ForTest(b *fleet.Bundle) *fleet.Bundle {
	if b.System == nil {
		return b
	}

	test, system := *b, *b.System
	system.Action = bundle.ActionTest
	test.System = &system
	test.Digest = test.Manifest.Digest()
	return &test
}

// asDeployed is the form of b that is wanted: as the branch that is deployed has it, or as a testing branch does. false:
// neither is.
func asDeployed(b *fleet.Bundle, wanted func(digest string) bool) (*fleet.Bundle, bool) {
	if wanted(b.Digest) {
		return b, true
	}
	test := ForTest(b)
	return test, wanted(test.Digest)
}
