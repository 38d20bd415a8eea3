package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func (p *Process) killGroup() { unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) }

// await waits for the end of the child without taking its number back.
func (p *Process) await() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// maxStack ends a recursion without end while there is still memory to say so.
const maxStack = 64 << 20

// confine limits this process. Data is limited, and not the address space: of that the runtime
// reserves far more than it uses.
//
// The limit counts from what the process has mapped by now, so that memory is all for its work. The
// runtime alone maps 80 MiB when it starts, and in a program with cgo 8 MiB more for the stack of each
// thread: a fixed limit would leave little of that, and another little each time.
func confine(memory int64, cpu, parent int, filter bool) error {
	runtime.GOMAXPROCS(min(2, runtime.GOMAXPROCS(0)))
	debug.SetMaxStack(maxStack)
	debug.SetMemoryLimit(memory * 3 / 4)
	debug.SetTraceback("single")

	mapped, err := dataMapped()
	if err != nil {
		return fmt.Errorf("limit the child process: %w", err)
	}
	limits := []struct {
		what  int
		limit uint64
	}{
		{unix.RLIMIT_CPU, uint64(cpu)}, {unix.RLIMIT_NOFILE, 16}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_DATA, uint64(mapped + memory)},
	}
	for _, l := range limits {
		if l.what == unix.RLIMIT_DATA && raceDetector {
			continue // its shadow memory alone is terabytes
		}
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.limit, Max: l.limit}); err != nil {
			return fmt.Errorf("limit the child process: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the child process from being dumped: %w", err)
	}
	if err := noCalls(filter); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("keep files and sockets from the child process: %w", err)
	}
	if os.Getppid() != parent { // it ended before the kernel was asked to tell
		return errors.New("the parent process is gone")
	}
	return nil
}

// dataMapped is how many bytes of data and stack this process has mapped.
func dataMapped() (int64, error) {
	const file, dataField = "/proc/self/statm", 5
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}

	fields := strings.Fields(string(text))
	if len(fields) <= dataField {
		return 0, fmt.Errorf("read %s: %q has no field for data", file, text)
	}
	pages, err := strconv.ParseInt(fields[dataField], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
