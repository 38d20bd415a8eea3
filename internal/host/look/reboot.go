package look

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/host/nixsystem"
	"bellhop/internal/host/state"
	"bellhop/internal/plain"
)

// maxPackages is how much of the names of packages that want a reboot is told, bytes.
const maxPackages = 200

// rebootReason says why the host wants a reboot; "" when it does not.
func rebootReason(m state.Dir) string {
	const mark = "/run/reboot-required" // of Debian and Ubuntu
	if _, err := os.Lstat(m.At(mark)); err == nil {
		return mark + packagesThatWantIt(m.At(mark+".pkgs"))
	}

	if why := nixsystem.RebootReason(m.Machine); why != "" {
		return why
	}

	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	if kernel := unix.ByteSliceToString(u.Release[:]); modulesLeft(m, kernel) {
		return "the modules of the running kernel " + kernel + " are gone"
	}
	return ""
}

// packagesThatWantIt reads the names, one a line, that a distribution writes beside its mark.
func packagesThatWantIt(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()

	buf := make([]byte, 4<<10)
	n, _ := f.Read(buf)
	names := strings.Fields(string(buf[:n]))
	if len(names) == 0 {
		return ""
	}
	return ": " + plain.Line(strings.Join(names, ", "), maxPackages)
}

// modulesLeft says that a newer kernel was installed, and took the place of the one that runs: there are
// modules of others, and none of its own. A container has the kernel of its host, and no modules or those of
// anybody.
func modulesLeft(m state.Dir, kernel string) bool {
	if _, err := os.Stat(m.At("/run/systemd/container")); err == nil {
		return false
	}

	for _, dir := range []string{"/usr/lib/modules", "/lib/modules"} {
		if _, err := os.Stat(filepath.Join(m.At(dir), kernel)); err == nil {
			return false
		}
	}

	others, _ := filepath.Glob(m.At("/lib/modules/*/modules.dep"))
	return len(others) > 0
}
