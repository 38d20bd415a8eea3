package edit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrNoRAM says that there is no RAM-backed folder for plaintext.
var ErrNoRAM = errors.New("there is no RAM-backed folder for the plaintext (looked at $XDG_RUNTIME_DIR and /dev/shm); nothing was written")

const ramPrefix = "bellhop-edit-"

// maxWiped is how many bytes of a file are overwritten: far more than any secret has.
const maxWiped = 8 << 20

// newRAMDir makes a folder, 0700, on a file system that lives in RAM. Folders left by an editing
// that was killed are removed first.
func newRAMDir() (string, error) {
	for _, parent := range ramParents() {
		if !inRAM(parent) {
			continue
		}
		sweep(parent)
		dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", ramPrefix, os.Getpid())) // 0700
		if err != nil {
			continue
		}
		if !inRAM(dir) {
			os.RemoveAll(dir)
			continue
		}

		return dir, nil
	}

	return "", ErrNoRAM
}

func ramParents() []string {
	parents := []string{"/dev/shm", fmt.Sprintf("/run/user/%d", os.Geteuid())}
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) {
		parents = append([]string{x}, parents...)
	}
	return parents
}

// sweep removes our own folders whose process is gone.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}

	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), ramPrefix)
		if !ok || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		pid, perr := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		isOurs := ok && perr == nil && int(st.Uid) == os.Geteuid()
		if isOurs && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			wipe(filepath.Join(parent, e.Name()))
		}
	}
}

// wipe overwrites what is below dir, then removes it. On a tmpfs that may swap, overwriting is
// the most that can be done.
func wipe(dir string) {
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if f, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW, 0); err == nil {
				_, _ = f.Write(make([]byte, min(info.Size(), maxWiped)))
				f.Close()
			}
		}

		return nil
	})
	os.RemoveAll(dir)
}
