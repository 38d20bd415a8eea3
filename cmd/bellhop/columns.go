package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"bellhop/internal/link"
	"bellhop/internal/prefixed"
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
func (c *columns) of(host string) (out, errs *prefixed.Writer) {
	head := c.e.outPaint().cyan(fmt.Sprintf("%-*s", c.width, host)) + " | "
	return &prefixed.Writer{Mu: &c.mu, W: rawUnlessShown(c.e.Stdout), Head: head}, &prefixed.Writer{Mu: &c.mu, W: rawUnlessShown(c.e.Stderr), Head: head}
}

// run runs a line on one host, and returns its exit code: 255 when the host was not reached, as
// ssh has it.
func (c *columns) run(ctx context.Context, pool *link.Pool, t link.Target, line string) int {
	out, errs := c.of(t.Name)
	code, err := pool.Exec(ctx, t, line, strings.NewReader(""), out, errs)
	out.End()
	errs.End()
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
