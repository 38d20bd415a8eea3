package link

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"bellhop/internal/owner"
)

// builtHelpers are the digests of the helpers that were built with this program, as
// "amd64:HEX,arm64:HEX": the Makefile sets them (-ldflags -X). A bare go build has none, and then
// whoever can write beside the program is root or its owner, which is checked.
var builtHelpers string

// FindHelper finds the helper for an OS and architecture: the file
// bellhop-host-OS-ARCH in $BELLHOP_HELPERS, beside the executable or in /usr/lib/bellhop;
// failing that the executable itself where it is built for the same, since it can act as
// helper ("bellhop host-helper serve"). The helper is run as root on hosts, so a file that
// another user wrote or can replace is refused, and so is one that is not the file that this
// program was built with.
func FindHelper(goos, goarch string) (path, digest string, err error) {
	name := "bellhop-host-" + goos + "-" + goarch
	for _, dir := range helperDirs() {
		path := filepath.Join(dir, name)
		digest, err := trustedDigest(path, goarch)
		if err == nil {
			return path, digest, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
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

// trustedDigest is the digest of a helper that nobody else could have put there.
func trustedDigest(path, goarch string) (string, error) {
	if _, err := os.Lstat(path); err != nil {
		return "", err // most folders have none: nobody asks whose they are
	}
	if err := owner.CheckIn(path); err != nil {
		return "", fmt.Errorf("%w, and it would be run as root on every host: chown root it and its folder, and chmod go-w them", err)
	}

	digest, err := fileDigest(path)
	if err != nil {
		return "", err
	}

	if built := builtDigest(builtHelpers, goarch); built != "" && digest != built {
		return "", fmt.Errorf("%s is not the helper that this bellhop was built with (its SHA-256 begins with %s, not %s): install both from one release", path, digest[:12], built[:min(12, len(built))])
	}

	return digest, nil
}

// builtDigest finds the digest of an architecture in a list like that of builtHelpers.
func builtDigest(list, goarch string) string {
	for one := range strings.SplitSeq(list, ",") {
		if arch, digest, ok := strings.Cut(one, ":"); ok && arch == goarch {
			return digest
		}
	}

	return ""
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
