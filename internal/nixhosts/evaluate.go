package nixhosts

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"bellhop/internal/fleet"
	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtree"
)

// evaluateTime bounds one evaluation of Evaluate.
const evaluateTime = 10 * time.Minute

// NewCutOff has systems evaluated for people who may not be trusted, with files below dir, which is of no other Hosts: what can't be
// evaluated without a network is remembered there.
func NewCutOff(dir string, log *slog.Logger) *Hosts {
	h := New(dir, false, false)
	h.Log = log
	h.Nix.CutOff, h.Nix.Timeout = true, evaluateTime
	return h
}

// Errors of Evaluate. What Nix says is not among them: it may quote whatever the configuration can read, and who hears of a request
// may read less.
var (
	errNotEvaluated = errors.New("its NixOS system can't be evaluated with what is in the deployer's Nix store, and nothing is fetched for a request")
	errNotNow       = &fleet.SystemError{Text: errNotEvaluated.Error(), Later: true}
	errOddKey       = errors.New("deployment.keys has a key that is refused")
)

// Evaluate evaluates the systems of hosts as tree has them, and builds nothing: it tells which system each host would hold, and the
// keys of its configuration, which have no values. fleet.Loader.Systems is this for the plan of a request. A host whose system could
// not be told since the evaluation as a whole failed, or was ended, has a *fleet.SystemError with Later: the cause may be this
// machine's. What it was is in the log alone.
func (h *Hosts) Evaluate(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
	asks, all := asksOf(hosts), map[string]*fleet.HostSystem{}
	systems, err := h.evaluate(ctx, tree, commit, asks)
	if err != nil && h.Log != nil {
		h.Log.Warn("NixOS systems of a request are not evaluated", "commit", commit, "err", err)
	}

	for _, a := range asks {
		if all[a.Host] = h.answer(tree, a, systems); err != nil || systems[a.Host].MayPass() {
			all[a.Host] = &fleet.HostSystem{Err: errNotNow}
		}
	}

	return all
}

// evaluate evaluates all hosts. The error is that the repo as a whole can't be evaluated. What failed before is tried again: a
// deploy may have brought what was missing.
func (h *Hosts) evaluate(ctx context.Context, tree fs.FS, commit string, asks []nixos.Ask) (map[string]nixos.System, error) {
	source, err := nixtree.NewSource(tree, commit)
	if err != nil {
		return nil, err
	}

	h.Nix.ForgetFailures()
	e, err := h.Nix.Systems(ctx, source, asks)
	if err != nil {
		return nil, err
	}

	return e.Systems, nil
}

func (h *Hosts) answer(tree fs.FS, a nixos.Ask, systems map[string]nixos.System) *fleet.HostSystem {
	s, ok := systems[a.Host]
	if !ok || s.Err != "" {
		return &fleet.HostSystem{Err: errNotEvaluated}
	}

	out := &fleet.HostSystem{Path: s.Out}
	for i := range s.Keys {
		k, _, err := h.key(tree, nil, a, &s.Keys[i])
		isCommand := s.Keys[i].Command != nil // refused here, and perhaps not where it is deployed
		if err != nil && !isCommand {
			return &fleet.HostSystem{Err: errOddKey}
		}
		k.Value = func() ([]byte, error) { return nil, errors.New("a plan of a request opens no key") }
		out.Keys = append(out.Keys, k)
	}

	return out
}
