package real

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/host/machine"
)

// Busy lists what runs as a user, as usermod counts it: a process of which any uid is the user's,
// and that sees the same root as we do; one in a container is not.
func (a Accounts) Busy(name string) ([]machine.Process, error) {
	acc, ok, err := a.User(name)
	if err != nil || !ok {
		return nil, err
	}

	root, err := os.Stat("/")
	if err != nil {
		return nil, err
	}

	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}

	var all []machine.Process
	for _, dir := range dirs { // each may end while it is read
		at, err := os.Stat(dir + "/root")
		if err != nil || !os.SameFile(root, at) || !runsAs(dir, acc.UID) {
			continue
		}

		comm, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue
		}

		pid, err := strconv.Atoi(path.Base(dir))
		if err != nil {
			continue
		}

		cgroup, _ := os.ReadFile(dir + "/cgroup")
		all = append(all, machine.Process{PID: pid, Name: strings.TrimSpace(string(comm)), Unit: unitOf(cgroup)})
	}

	slices.SortFunc(all, func(a, b machine.Process) int { return a.PID - b.PID })
	return all, nil
}

// runsAs looks for uid among the real, effective and saved ones of a process.
func runsAs(dir string, uid int) bool {
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return false
	}

	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			f := bytes.Fields(ids)
			return slices.ContainsFunc(f[:min(3, len(f))], func(id []byte) bool { return string(id) == strconv.Itoa(uid) })
		}
	}

	return false
}

// unitOf is the system's unit that a process belongs to, by its place in systemd's tree: of
// /system.slice/bot.service/sub it is bot.service, of /user.slice/…/user@1000.service/app.slice/x.service
// user@1000.service.
func unitOf(cgroup []byte) string {
	for line := range strings.Lines(string(cgroup)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}

		for part := range strings.SplitSeq(f[2], "/") {
			switch path.Ext(part) {
			case ".service", ".scope", ".socket", ".mount":
				return part
			}
		}
	}
	return ""
}
