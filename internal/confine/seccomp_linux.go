//go:build linux && (amd64 || arm64)

package confine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a child may ask of the kernel: what the Go runtime needs for memory, threads, time and signals,
// and reads and writes on what is open. Everything else is answered EPERM: open, socket, execve,
// ptrace, kill and all that is not listed. clone makes threads alone.
var allowed = append([]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_FCNTL,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_MEMBARRIER,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL, unix.SYS_RESTART_SYSCALL,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETPPID, unix.SYS_GETRUSAGE, unix.SYS_GETRANDOM, unix.SYS_PRCTL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_UNAME,
	unix.SYS_GETCWD, // the reader of compose files makes its schema's name absolute; it opens nothing
}, allowedHere...)

const (
	offNr   = 0  // of struct seccomp_data
	offArch = 4  //
	offArg0 = 16 // the lower half, on a little endian machine

	retAllow = 0x7fff0000
	retErrno = 0x00050000
	retKill  = 0x80000000
)

// filter is the program that the kernel runs for each call.
func filter() []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	jump := func(code uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | code | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}

	prog := []unix.SockFilter{
		load(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), ret(retKill),
		load(offNr),
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), ret(retErrno | uint32(unix.ENOSYS)), // then clone is asked
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(offArg0), jump(unix.BPF_JSET, unix.CLONE_THREAD, 0, 1), ret(retAllow), ret(retErrno | uint32(unix.EPERM)),
	}
	for _, nr := range allowed {
		prog = append(prog, jump(unix.BPF_JEQ, nr, 0, 1), ret(retAllow))
	}
	return append(prog, ret(retErrno|uint32(unix.EPERM)))
}

// noCalls takes every other call from all threads of this process, if it may have a filter.
func noCalls(filtered bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if !filtered {
		return errors.ErrUnsupported
	}
	return install(filter())
}

// install gives all threads of this process a filter.
func install(prog []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS, unix.EINVAL, unix.EPERM, unix.EACCES: // a kernel without it, or a sandbox that keeps it
		return errors.ErrUnsupported
	}
	return fmt.Errorf("seccomp: %w", errno)
}
