package nixos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/nixos/nixtree"
)

// marks reads, in the log of an evaluation, what the hosts came to.
type marks struct {
	word   string // that begins each mark
	source string // the store path of the source; "" until the flake as a whole was evaluated
	at     string // the host under way
	done   map[string]System
	errs   tail // since the host under way began
}

func newMarks() *marks {
	var b [8]byte
	rand.Read(b[:])
	return &marks{word: "@bellhop-" + hex.EncodeToString(b[:]), done: map[string]System{}}
}

func (m *marks) line(l logLine) {
	if l.Action != "msg" {
		return
	}

	text := l.text()
	_, rest, marked := strings.Cut(text, "trace: "+m.word+" ")
	if !marked {
		m.errs.add(text)
		return
	}

	verb, rest, _ := strings.Cut(rest, " ")
	switch verb {
	case "source":
		m.source = strings.TrimSpace(rest)
	case "begin":
		m.at, m.errs = strings.TrimSpace(rest), tail{}
	case "done":
		host, data, _ := strings.Cut(rest, " ")
		m.end(host, []byte(strings.TrimSpace(data)))
	}
}

func (m *marks) end(host string, data []byte) {
	var v struct {
		Drv, Out string
		Keys     []evaluatedKey
	}
	s := System{}
	err := json.Unmarshal(data, &v)
	switch {
	case host != m.at:
		return
	case err != nil:
		s.Err = "what it came to can't be read: " + err.Error()
	case !IsStorePath(v.Out) || !IsStorePath(v.Drv) || !strings.HasSuffix(v.Drv, ".drv"):
		s.Err = "config.system.build.toplevel is no derivation that builds a store path"
	default:
		s.Drv, s.Out = v.Drv, v.Out
		s.Keys, err = keysOf(v.Keys, m.source)
		if err != nil {
			s = System{Err: err.Error()}
		}
	}

	m.done[host], m.at, m.errs = s, "", tail{}
}

// An Evaluation is what the hosts of one source came to.
type Evaluation struct {
	Systems map[string]System // by host
	// Processes is how many were started.
	Processes int
}

// Evaluate evaluates the systems of all asks, in one process, or in several where the memory of this machine
// asks for it. The error is one of the source as a whole; what is wrong with one host is in its System.
func (n *Nix) Evaluate(ctx context.Context, s *nixtree.Source, asks []Ask) (*Evaluation, error) {
	if len(asks) == 0 {
		return &Evaluation{Systems: map[string]System{}}, nil
	}
	if !Installed() {
		return nil, ErrNoNix
	}
	w, remove, err := s.Write(n.trees())
	if err != nil {
		return nil, err
	}
	defer remove()

	e := &evaluating{nix: n, written: w, asks: slices.Clone(asks), found: &Evaluation{Systems: map[string]System{}}, chunk: n.chunk(len(asks))}
	slices.SortFunc(e.asks, func(a, b Ask) int { return strings.Compare(a.Host, b.Host) })

	for len(e.asks) > 0 {
		if err := e.step(ctx); err != nil {
			return nil, err
		}
	}

	return e.found, nil
}

// evaluating is an evaluation under way.
type evaluating struct {
	nix     *Nix
	written *nixtree.Written
	asks    []Ask // that have no result yet
	chunk   int   // how many at once
	found   *Evaluation
}

// step starts one process, and takes from the asks those that it came to an end with.
func (e *evaluating) step(ctx context.Context) error {
	some := e.asks[:min(len(e.asks), e.chunk)]
	m := newMarks()
	e.found.Processes++
	stats, err := e.nix.evaluate(ctx, evaluation{systemsExpr, m.word, e.written, some}, nil, m.line)

	for host, s := range m.done {
		e.found.Systems[host] = s
	}
	if heap := stats.GC.HeapSize; heap > 0 {
		e.nix.learnCost(heap / int64(len(some)))
	}

	if err == nil {
		e.drop(func(a Ask) bool { _, done := m.done[a.Host]; return done })
		if len(m.done) == 0 {
			return errors.New("the evaluation ended without an error and without a result")
		}
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	e.drop(func(a Ask) bool { _, done := m.done[a.Host]; return done })
	outOfMemory := err.killed || slices.ContainsFunc(m.errs.lines, func(s string) bool { return strings.Contains(s, "out of memory") })
	switch {
	case outOfMemory && len(some) > 1:
		e.chunk = max(1, len(some)/2)
	case m.at == "":
		why := headline(m.errs.lines)
		return &Failure{Text: fmt.Sprintf("Nix can't evaluate the repo: %s", firstNonEmpty(why, err.Error())), Lines: m.errs.lines}
	default:
		e.found.Systems[m.at] = System{Err: firstNonEmpty(headline(m.errs.lines), err.Error()), Lines: m.errs.lines, passing: outOfMemory || err.late}
		e.drop(func(a Ask) bool { return a.Host == m.at })
	}

	return nil
}

func (e *evaluating) drop(done func(Ask) bool) {
	e.asks = slices.DeleteFunc(slices.Clone(e.asks), done)
}

func firstNonEmpty(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// A Failure is what Nix could not do, with the last lines of its log.
type Failure struct {
	Text  string
	Lines []string
}

func (f *Failure) Error() string { return f.Text }

// Full is f with the last lines of its log.
func (f *Failure) Full() string {
	return strings.Join(append([]string{"NixOS: " + f.Text}, f.Lines...), "\n")
}

// Texts evaluates the values of keys that are written in the configuration itself: host, to key, to value.
func (n *Nix) Texts(ctx context.Context, s *nixtree.Source, asks []Ask) (map[string]map[string]string, error) {
	w, remove, err := s.Write(n.trees())
	if err != nil {
		return nil, err
	}
	defer remove()

	var out bytes.Buffer
	var errs tail
	_, failed := n.evaluate(ctx, evaluation{textsExpr, "", w, asks}, &out, func(l logLine) {
		if l.Action == "msg" {
			errs.add(l.text())
		}
	})
	if failed != nil {
		return nil, errors.New("the texts of keys can't be evaluated") // the log may quote them
	}

	var texts map[string]map[string]string
	if err := json.Unmarshal(out.Bytes(), &texts); err != nil {
		return nil, errors.New("the texts of keys can't be read")
	}

	return texts, nil
}
