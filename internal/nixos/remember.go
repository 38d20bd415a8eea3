package nixos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"bellhop/internal/durable"
	"bellhop/internal/nixos/nixtree"
)

// A memory is what earlier evaluations came to, in a file: as long as Nix would see the same, it is not asked.
type memory struct {
	Cost    int64             `json:"cost,omitempty"` // bytes of memory for one host
	Results []rememberedEntry `json:"results,omitempty"`
}

type rememberedEntry struct {
	Key    string `json:"key"` // of source, ask and Nix
	System System `json:"system"`
}

// maxRemembered is how many results are kept: those of some commits of a large fleet.
const maxRemembered = 4096

func (n *Nix) memoryFile() string { return filepath.Join(n.Dir, "evaluated.json") }

// remembered reads the file once. It is called under mu.
func (n *Nix) remembered() *memory {
	if n.memory != nil {
		return n.memory
	}

	n.memory = &memory{}
	if b, err := os.ReadFile(n.memoryFile()); err == nil && json.Unmarshal(b, n.memory) != nil {
		n.memory = &memory{} // it is a cache: what can't be read is evaluated again
	}
	return n.memory
}

// askKey names one ask of one source: with the same key Nix comes to the same.
func (n *Nix) askKey(s *nixtree.Source, a Ask) string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %s %v %q %q %s", s.Key, n.ImportFromDerivation, a.Attr, a.File, nixVersion())
	if a.EvaluatesOnHost() { // the derivation is on one host
		fmt.Fprintf(h, " %q", a.Host)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// nixVersion stands for the Nix of this machine, without starting it.
func nixVersion() string {
	path, err := program("nix")
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	if err != nil {
		return path
	}

	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}

// Systems are the systems of all asks: those that are known are not evaluated again, also where they failed.
func (n *Nix) Systems(ctx context.Context, s *nixtree.Source, asks []Ask) (*Evaluation, error) {
	known := &Evaluation{Systems: map[string]System{}}
	var missing []Ask
	for _, a := range asks {
		sys, ok := n.recall(n.askKey(s, a))
		if ok && n.canBuild(sys) {
			known.Systems[a.Host] = sys
		} else {
			missing = append(missing, a)
		}
	}

	if len(missing) == 0 {
		return known, nil
	}

	e, err := n.Evaluate(ctx, s, missing)
	if err != nil {
		return nil, err
	}

	var entries []rememberedEntry
	for _, a := range missing {
		sys := e.Systems[a.Host]
		known.Systems[a.Host] = sys
		if !sys.passing {
			entries = append(entries, rememberedEntry{n.askKey(s, a), sys})
		}
	}

	known.Processes = e.Processes
	return known, n.keep(entries)
}

// Known is what the systems of asks came to, as far as that is known without a program that is started: those that are
// built and kept, and those that can't be. A host that is in neither has to be asked for.
func (n *Nix) Known(s *nixtree.Source, asks []Ask) (systems map[string]System, failures map[string]*Failure) {
	systems, failures = map[string]System{}, map[string]*Failure{}
	for _, a := range asks {
		sys, ok := n.recall(n.askKey(s, a))
		if !ok {
			continue
		}
		broken := n.failureOf(sys.Drv)
		if broken != nil {
			failures[a.Host] = broken
		}
		isThere := a.OnHost && n.canBuild(sys) // the host builds it in the run
		hasFailed := sys.Err != "" || broken != nil
		if hasFailed || isThere || n.isKept(sys.Out) {
			systems[a.Host] = sys
		}
	}

	return systems, failures
}

// canBuild says that there is something to build a remembered system from. The garbage collector takes derivations
// too, and then only an evaluation brings them back.
func (n *Nix) canBuild(s System) bool {
	if s.Err != "" || s.There {
		return true
	}
	return n.isKept(s.Out) || Has(s.Drv)
}

func (n *Nix) recall(key string) (System, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.remembered().Results
	i := slices.IndexFunc(all, func(e rememberedEntry) bool { return e.Key == key })
	if i < 0 {
		return System{}, false
	}

	return all[i].System, true
}

// keep remembers results, the newest first.
func (n *Nix) keep(entries []rememberedEntry) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.remembered()
	old := slices.DeleteFunc(m.Results, func(o rememberedEntry) bool {
		return slices.ContainsFunc(entries, func(e rememberedEntry) bool { return e.Key == o.Key })
	})
	m.Results = append(entries, old...)
	m.Results = m.Results[:min(len(m.Results), maxRemembered)]

	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := durable.Write(n.memoryFile(), b, 0o600); err != nil {
		return fmt.Errorf("remember what was evaluated: %w", err)
	}

	return nil
}
