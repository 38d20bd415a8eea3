package confine

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A page is memory that parent and child share. The child writes there what it works on, which costs
// it no system call, and the parent reads it when the child is gone.
type page struct {
	mu   sync.Mutex
	f    *os.File // the parent's
	data []byte
}

const (
	pageSize = 4096
	pageFD   = 3
)

func newPage() (*page, error) {
	fd, err := unix.MemfdCreate("step", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "step")
	if err := f.Truncate(pageSize); err != nil {
		f.Close()
		return nil, err
	}
	data, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &page{f: f, data: data}, nil
}

func (p *page) files() []*os.File { return []*os.File{p.f} }

func openPage() (*page, error) {
	data, err := unix.Mmap(pageFD, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return &page{data: data}, unix.Close(pageFD)
}

// write is called by one goroutine.
func (p *page) write(s string) {
	n := copy(p.data[:pageSize-1], s)
	p.data[n] = 0
}

func (p *page) read() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data == nil {
		return ""
	}
	s, _, _ := bytes.Cut(p.data, []byte{0})
	return string(s)
}

func (p *page) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data != nil {
		unix.Munmap(p.data)
		p.f.Close()
		p.data = nil
	}
}
