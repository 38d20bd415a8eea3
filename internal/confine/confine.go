// Package confine runs a part of this program in a child process that can compute, and nothing else.
//
// The parent starts the same binary again (Start); the child calls Enter before it reads a byte. A
// child has two pipes to its parent, a page of memory where it notes what it works on, and a pipe for
// what the runtime says when it dies. It has no environment, no other open file, no core file, cannot
// gain privileges, and ends with its parent. Its memory, its processor time, its files and their size
// are limited by the kernel; where the kernel has seccomp it can open no file and no socket, and run no
// program.
//
// The promise: whatever the input makes of a child (an endless loop, a stack overflow, all memory
// taken), the parent lives, knows why it ended, and on what.
package confine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Config says how children are started.
type Config struct {
	// Argv is the program and its arguments, as in {"/proc/self/exe", "load"}; four are added.
	Argv []string
	// Name is what the program is called; "": as this one.
	Name string
	// Memory is how many bytes of data a child may have beside those that its program needs to start.
	Memory int64
	// CPU is how much processor time a child may take in its life.
	CPU time.Duration
}

// A Process is a child that runs.
type Process struct {
	In  io.WriteCloser // what it reads
	Out io.ReadCloser  // what it writes

	cfg    Config
	cmd    *exec.Cmd
	page   *page
	said   said
	again  atomic.Bool
	killed atomic.Pointer[string] // why
	ended  chan struct{}

	mu     sync.Mutex
	reaped bool // its number may be another's now
}

// noFilter is set when a child was killed for asking for its own filter, which a SystemCallFilter= of
// the service that this runs in may forbid. Children do without from then on.
var noFilter atomic.Bool

// The words for a child that has a filter, and for one that does without.
const (
	withFilter    = "filter"
	withoutFilter = "no-filter"
)

// Start starts a child.
func Start(cfg Config) (*Process, error) {
	p := &Process{cfg: cfg, ended: make(chan struct{})}
	var err error
	if p.page, err = newPage(); err != nil {
		return nil, fmt.Errorf("start a child process: %w", err)
	}

	args := append(cfg.Argv[1:len(cfg.Argv):len(cfg.Argv)], strconv.FormatInt(cfg.Memory, 10), strconv.Itoa(int(cfg.CPU.Seconds())), strconv.Itoa(os.Getpid()), withFilter)
	if noFilter.Load() {
		args[len(args)-1] = withoutFilter
	}
	p.cmd = exec.Command(cfg.Argv[0], args...)
	p.cmd.Args[0] = os.Args[0]
	if cfg.Name != "" {
		p.cmd.Args[0] = cfg.Name
	}
	p.cmd.Env = []string{}
	p.cmd.Dir = "/"
	p.cmd.SysProcAttr = attributes()
	p.cmd.ExtraFiles = p.page.files()
	p.cmd.Stderr = &p.said
	p.cmd.WaitDelay = time.Second
	if p.In, err = p.cmd.StdinPipe(); err == nil {
		p.Out, err = p.cmd.StdoutPipe()
	}
	if err == nil {
		err = p.start()
	}
	if err != nil {
		p.page.close()
		return nil, fmt.Errorf("start a child process: %w", err)
	}
	return p, nil
}

// start keeps the thread that started the child until it has ended: the kernel takes the end of that
// thread for the end of the parent.
func (p *Process) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.await() // and leave its number taken
		p.mu.Lock()
		p.killGroup() // what it may have started
		p.cmd.Wait()
		p.reaped = true
		if p.signal() == syscall.SIGSYS && !noFilter.Swap(true) {
			p.again.Store(true)
		}
		p.mu.Unlock()
		close(p.ended)
	}()
	return <-started
}

// Kill ends the child with all that it started. why is what Reason gives then.
func (p *Process) Kill(why string) {
	p.killed.CompareAndSwap(nil, &why)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.killGroup()
	}
}

// Again tells whether the child was killed for asking for what the next one will do without. It waits
// for its end.
func (p *Process) Again() bool {
	<-p.ended
	return p.again.Load()
}

// signal is what ended the child; 0 when none did.
func (p *Process) signal() syscall.Signal {
	if state := p.cmd.ProcessState; state != nil {
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return ws.Signal()
		}
	}
	return 0
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Close ends the child and waits for it.
func (p *Process) Close() {
	p.Kill("ended by its parent")
	<-p.ended
	p.page.close()
}

// Step is what the child works on, or worked on last.
func (p *Process) Step() string { return p.page.read() }

// Reason says why the child ended; it waits for its end.
func (p *Process) Reason() string {
	<-p.ended
	if why := p.killed.Load(); why != nil {
		return *why
	}
	said := p.said.String()
	switch {
	case noMemory(said):
		return fmt.Sprintf("it takes more than %d MiB of memory, the limit of --load-memory", p.cfg.Memory>>20)
	case strings.Contains(said, "stack overflow") || strings.Contains(said, "stack exceeds"):
		return "it is nested too deep: the stack overflowed"
	}
	if p.signal() == syscall.SIGKILL {
		return "it takes too much processor time or memory: the kernel ended its process"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if state := p.cmd.ProcessState; line == "" && state != nil {
		line = state.String()
	}
	return "its process ended: " + line
}

// noMemory tells whether a runtime died for want of memory. Where it does not look at what the kernel
// answers, that is a SIGSEGV in its own code; in other code one is a panic.
func noMemory(said string) bool {
	for _, words := range []string{"out of memory", "cannot allocate", "failed to reserve", "failed to create new OS thread", "pthread_create failed"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return strings.HasPrefix(said, "SIGSEGV")
}

// PID is its number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// said keeps the first of what a child says when it dies.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const maxSaid = 8 << 10

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(p[:min(len(p), maxSaid-s.b.Len())])
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// An Inside is the child's own view.
type Inside struct {
	In  io.Reader
	Out io.Writer

	page *page
}

// At notes what is worked on next: what the parent names if the child does not live to tell.
func (i *Inside) At(step string) { i.page.write(step) }

// Enter confines this process, which Start started, for the rest of its life. args are the four
// that Start added.
func Enter(args []string) (*Inside, error) {
	if len(args) != 4 {
		return nil, errors.New("bellhop starts this by itself")
	}
	memory, err1 := strconv.ParseInt(args[0], 10, 64)
	cpu, err2 := strconv.Atoi(args[1])
	parent, err3 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	page, err := openPage()
	if err != nil {
		return nil, err
	}
	if err := confine(memory, cpu, parent, args[3] != withoutFilter); err != nil {
		return nil, err
	}
	return &Inside{In: os.Stdin, Out: os.Stdout, page: page}, nil
}

// Reaches lists what a child can reach although it should not: files, sockets, programs. It tries.
func (i *Inside) Reaches() []string {
	var out []string
	if f, err := os.Open("/"); err == nil {
		f.Close()
		out = append(out, "files")
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		out = append(out, "sockets")
	}
	if err := exec.Command("/bin/true").Run(); err == nil {
		out = append(out, "programs")
	}
	return out
}

// LimitsMemory tells whether the kernel limits a child's memory: not under the race detector, whose
// own takes terabytes.
const LimitsMemory = !raceDetector
