package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bellhop/internal/lab"
)

// A member of --ring-group rings from a git hook; nobody else does, and neither sees more.
func TestRingGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("being somebody else needs root")
	}
	const gid = 1 // a group that every system has, called daemon or bin
	group, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "ring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	remote := lab.NewRemote(filepath.Join(dir, "config.git"))
	remote.Commit(map[string]string{"bellhop.yaml": "network: hexagone\n"}, "nothing yet", "Cadey <c@example.com>")
	o := serveOptions{gap: 1, listen: "off", admin: "off", ringGroup: group.Name, pollByHand: true}
	o.deployerFlags = deployerFlags{stateDir: filepath.Join(dir, "state"), repo: remote.URL(), branch: "main", path: ".", rewritten: "follow"}
	s, err := o.start(t.Context(), &Env{Getenv: func(string) string { return "" }}, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })

	if out, err := asNobody(t, []uint32{gid}, "ring", "--follow", "--state-dir", o.stateDir); err != nil {
		t.Errorf("ring of a member: %v\n%s", err, out)
	}
	if out, err := asNobody(t, nil, "ring", "--state-dir", o.stateDir); err == nil || !strings.Contains(out, "--ring-group") {
		t.Errorf("ring of a stranger: %v, want a refusal that names --ring-group\n%s", err, out)
	}
	if out, err := asNobody(t, []uint32{gid}, "status", "--state-dir", o.stateDir); err == nil {
		t.Errorf("status of a member went through:\n%s", out)
	}
	if _, err := (&net.Dialer{}).DialContext(context.Background(), "unix", filepath.Join(o.stateDir, "bellhop.sock")); err != nil {
		t.Errorf("the server's own user: %v", err)
	}
	if fi, err := os.Stat(o.stateDir); err != nil || fi.Mode().Perm() != 0o710 {
		t.Errorf("state directory: %v %v, want 0710", fi.Mode(), err)
	}
}

// asNobody runs this program as a user without rights. It is started by its descriptor, since
// that user cannot walk to where go test put it.
func asNobody(t *testing.T, groups []uint32, args ...string) (string, error) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	var out bytes.Buffer
	cmd := exec.Cmd{
		Path: "/proc/self/fd/3", Args: append([]string{"bellhop"}, args...), Dir: "/", Env: []string{"HOME=/nonexistent"},
		Stdout: &out, Stderr: &out, ExtraFiles: []*os.File{self},
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: groups}},
	}
	err = cmd.Run()
	return out.String(), err
}
