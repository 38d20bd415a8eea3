package nixos

import "os"

// Has says whether a path is in the store of this machine.
func Has(path string) bool {
	if !IsStorePath(path) {
		return false
	}
	_, err := os.Lstat(path)
	return err == nil
}
