package link

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// FindHelper finds the helper for an OS and architecture: the file
// bellhop-host-OS-ARCH in $BELLHOP_HELPERS, beside the executable or in /usr/lib/bellhop;
// failing that the executable itself where it is built for the same, since it can act as
// helper ("bellhop host-helper serve").
func FindHelper(goos, goarch string) (path, digest string, err error) {
	name := "bellhop-host-" + goos + "-" + goarch
	for _, dir := range helperDirs() {
		path := filepath.Join(dir, name)
		if digest, err := fileDigest(path); err == nil {
			return path, digest, nil
		} else if !os.IsNotExist(err) {
			return "", "", fmt.Errorf("helper: %w", err)
		}
	}
	if goos != runtime.GOOS || goarch != runtime.GOARCH {
		return "", "", fmt.Errorf("no helper for %s/%s: put %s beside bellhop, in /usr/lib/bellhop, or in $BELLHOP_HELPERS", goos, goarch, name)
	}
	path, err = ownExecutable()
	if err != nil {
		return "", "", fmt.Errorf("helper: %w", err)
	}
	digest, err = fileDigest(path)
	return path, digest, err
}

func helperDirs() []string {
	var dirs []string
	if d := os.Getenv("BELLHOP_HELPERS"); d != "" {
		dirs = append(dirs, d)
	}
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(exe))
	}
	return append(dirs, "/usr/lib/bellhop")
}

// ownExecutable is the program that runs, also when its file was replaced by an upgrade.
func ownExecutable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

var digests struct {
	sync.Mutex
	of map[string]knownDigest
}

type knownDigest struct {
	size   int64
	time   time.Time
	digest string
}

// fileDigest is the SHA-256 of a file, computed once as long as size and time stay.
func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	digests.Lock()
	defer digests.Unlock()
	if k, ok := digests.of[path]; ok && k.size == info.Size() && k.time.Equal(info.ModTime()) {
		return k.digest, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if digests.of == nil {
		digests.of = map[string]knownDigest{}
	}
	digest := hex.EncodeToString(h.Sum(nil))
	digests.of[path] = knownDigest{info.Size(), info.ModTime(), digest}
	return digest, nil
}
