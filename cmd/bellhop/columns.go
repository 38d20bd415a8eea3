package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"bellhop/internal/link"
)

// What several hosts print at the same time: whole lines, each behind the name of its host.

// columns writes the output of several hosts.
type columns struct {
	e     *Env
	width int // of the longest name
	mu    sync.Mutex
}

func (e *Env) columns(ts []link.Target) *columns {
	c := &columns{e: e}
	for _, t := range ts {
		c.width = max(c.width, len(t.Name))
	}
	return c
}

// of are the two streams of one host.
func (c *columns) of(host string) (out, errs *prefixed) {
	head := c.e.outPaint().cyan(fmt.Sprintf("%-*s", c.width, host)) + " | "
	return &prefixed{mu: &c.mu, w: rawUnlessShown(c.e.Stdout), head: head}, &prefixed{mu: &c.mu, w: rawUnlessShown(c.e.Stderr), head: head}
}

// run runs a line on one host, and returns its exit code: 255 when the host was not reached, as
// ssh has it.
func (c *columns) run(ctx context.Context, pool *link.Pool, t link.Target, line string) int {
	out, errs := c.of(t.Name)
	code, err := pool.Exec(ctx, t, line, strings.NewReader(""), out, errs)
	out.end()
	errs.end()
	if ctx.Err() != nil {
		return exitInterrupted
	}

	if err != nil {
		fmt.Fprintln(errs, textOf(err))
		return exitUnreached
	}

	if code != 0 {
		fmt.Fprintf(errs, "exit %d\n", code) // a command may fail without a word
	}

	return code
}

// exitUnreached is the code of a host that was not reached, as ssh has it.
const exitUnreached = 255

// prefixed puts a head before each line, and lets only whole lines through, so that hosts
// do not write into each other's.
type prefixed struct {
	mu   *sync.Mutex
	w    io.Writer
	head string
	part []byte
}

// maxPart is how much of a line is kept until its end comes.
const maxPart = 64 << 10

func (p *prefixed) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		i := bytes.IndexByte(p.part, '\n')
		if i < 0 && len(p.part) < maxPart {
			return len(b), nil
		} else if i < 0 {
			p.end() // a long line is written in parts
			return len(b), nil
		}

		p.line(p.part[:i])
		p.part = p.part[i+1:]
	}
}

func (p *prefixed) line(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s%s\n", p.head, b)
}

func (p *prefixed) end() {
	if len(p.part) > 0 {
		p.line(p.part)
		p.part = nil
	}
}

// each runs work on all targets, at most parallel at once, and returns what each said in
// the order of targets.
func each[T any](ctx context.Context, targets []link.Target, parallel int, work func(context.Context, link.Target) T) []T {
	out := make([]T, len(targets))
	slots := make(chan struct{}, max(parallel, 1))
	done := make(chan struct{})
	for i, t := range targets {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots; done <- struct{}{} }()
			out[i] = work(ctx, t)
		}()
	}

	for range targets {
		<-done
	}

	return out
}
