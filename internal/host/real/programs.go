package real

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"bellhop/internal/host/machine"
)

const (
	maxOutput = 8 << 20 // bytes of each output of a program that are kept
	endTime   = 10 * time.Second
)

// Programs runs programs as children of this process.
type Programs struct{}

var (
	_ machine.Programs     = Programs{}
	_ machine.DockerSocket = Programs{}
)

// DockerSocket is where the docker program asks that Run starts, with root's home and no variables of Docker's: at the default
// socket, unless root chose another context.
func (Programs) DockerSocket() string { return dockerSocket("/root/.docker/config.json") }

// dockerSocket is what the docker program with this configuration takes.
func dockerSocket(config string) string {
	const standard = "/var/run/docker.sock"
	text, err := os.ReadFile(config)
	if errors.Is(err, fs.ErrNotExist) {
		return standard
	}

	var c struct {
		CurrentContext string `json:"currentContext"`
	}
	if err != nil || json.Unmarshal(text, &c) != nil {
		return ""
	}
	if c.CurrentContext != "" && c.CurrentContext != "default" {
		return ""
	}
	return standard
}

// Run runs p. It has a process group of its own, so that a terminal's signal does not reach it.
func (Programs) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Dir = p.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LC_ALL=C"}, p.Env...)
	cmd.Stdin = strings.NewReader(p.In)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := machine.Output{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		out.Exit = cmd.ProcessState.ExitCode()
	}

	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return out, fmt.Errorf("run %s: %w", p.Argv[0], context.Cause(ctx))
	case errors.As(err, &ended):
		return out, nil
	case err != nil:
		return out, fmt.Errorf("run %s: %w", p.Argv[0], err)
	}
	return out, nil
}

// bounded keeps the first maxOutput bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxOutput-b.Len())])
	return len(p), nil
}
