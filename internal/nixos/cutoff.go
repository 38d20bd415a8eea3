package nixos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// An evaluation for somebody who may not be trusted runs cut off: in a network namespace of its own in which nothing is
// up, so that it can fetch nothing and ask nobody, and with bounds on its memory and its processor time. What it needs is
// in the store already, or it fails. Nix's own daemon is reached by a socket in the file system, and is not cut off: it builds
// nothing for an evaluation that may not import from derivations.

// Bounds of such an evaluation.
const (
	cutOffMemory = 6 << 30 // of address space, bytes
	cutOffCPU    = 600     // seconds
	cutOffFile   = 1 << 30 // of one file that it writes, bytes
)

// errNoNamespace says that an evaluation can't be cut off here, so that it is not made.
var errNoNamespace = errors.New("it can't be cut off from the network here: RestrictNamespaces= of bellhop.service, or the kernel, forbids it; contrib/bellhop-nix.socket has a worker that can")

// cutOff has a program of Nix started without a network. Whoever is not root needs a namespace of users for that, in which it
// stays who it is.
func cutOff(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	if os.Geteuid() == 0 {
		return
	}

	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
}

// bound sets the bounds of a program that was started. What it took until then is little: it has read no configuration yet.
func bound(pid int) error {
	for what, most := range map[int]uint64{unix.RLIMIT_AS: cutOffMemory, unix.RLIMIT_CPU: cutOffCPU, unix.RLIMIT_FSIZE: cutOffFile, unix.RLIMIT_CORE: 0} {
		if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: most, Max: most}, nil); err != nil {
			return fmt.Errorf("bound an evaluation: %w", err)
		}
	}
	return nil
}

// startCutOff starts a program that cutOff prepared, and sets its bounds. One that can't have them is ended.
func startCutOff(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		isForbidden := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC)
		isUnknown := errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS)
		if isForbidden || isUnknown {
			return fmt.Errorf("%w (%v)", errNoNamespace, err)
		}
		return err
	}
	if err := bound(cmd.Process.Pid); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		return err
	}

	return nil
}
