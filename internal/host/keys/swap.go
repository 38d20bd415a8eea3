package keys

import (
	"os"
	"path/filepath"
	"strings"
)

// SwapClear says that the host swaps to something unencrypted. A tmpfs can be swapped out, so
// it matters where ramfs was refused. zram is RAM; dm-crypt is sealed with a key of its own.
func (k *Mounts) SwapClear() bool { return swapClear("/") }

func swapClear(root string) bool {
	p, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err != nil {
		return false // a kernel without swap
	}

	lines := strings.Split(strings.TrimSpace(string(p)), "\n")
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		if f[1] != "partition" || !sealedDevice(root, strings.ReplaceAll(f[0], `\040`, " ")) {
			return true
		}
	}

	return false
}

// sealedDevice says whether a block device is zram or stands on dm-crypt, itself or below.
func sealedDevice(root, dev string) bool {
	if to, err := filepath.EvalSymlinks(filepath.Join(root, dev)); err == nil {
		dev = to
	}
	return sealedBlock(root, filepath.Base(dev))
}

func sealedBlock(root, name string) bool {
	if strings.HasPrefix(name, "zram") {
		return true
	}

	sys := filepath.Join(root, "sys/class/block", name)
	if id, _ := os.ReadFile(filepath.Join(sys, "dm/uuid")); strings.HasPrefix(string(id), "CRYPT-") {
		return true
	}

	below, _ := os.ReadDir(filepath.Join(sys, "slaves"))
	for _, b := range below {
		if !sealedBlock(root, b.Name()) {
			return false
		}
	}

	return len(below) > 0
}
