package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/owner"
)

// Which hosts a verb means, and how they are reached. The config repo in front of us is
// asked first; where there is none, history remembers how each host was reached last.

// A reach is how a command line gets to hosts.
type reach struct {
	dir      string // config repo; "" looks here and above
	stateDir string
	sshKey   string
}

func (r *reach) flags(c *cobra.Command) {
	dirFlag(c, &r.dir)
	stateDirFlag(c, &r.stateDir)
	secretFileFlag(c, &r.sshKey, "ssh-key", "", "SSH private key to log in with (default: the deployer's, else your agent's and your own)")
}

// targets lists the hosts that expr names ("" is all of them), by name.
func (r *reach) targets(expr string) ([]link.Target, error) {
	dir, err := configDir(r.dir)
	if err != nil && (r.dir != "" || owner.IsUntrusted(err)) {
		return nil, err // its pins would lead to another's machine
	}
	r.dir = dir
	if r.dir != "" {
		f, err := loadOffline(r.dir)
		if err != nil {
			return nil, err
		}
		return fleetTargets(f, expr)
	}
	return r.remembered(expr)
}

// target finds the one host of that name.
func (r *reach) target(name string) (link.Target, error) {
	if strings.ContainsAny(name, "@!*?[,") {
		return link.Target{}, fmt.Errorf("%s names more than one host; this takes one", name)
	}
	ts, err := r.targets(name)
	if err != nil {
		return link.Target{}, err
	}
	return ts[0], nil
}

// loadOffline reads the config in dir without opening any secret.
func loadOffline(dir string) (*fleet.Fleet, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	f, err := (&fleet.Loader{}).Load(context.Background(), os.DirFS(dir))
	if err != nil {
		return nil, hint(fmt.Errorf("read the config in %s:\n%w", dir, err), "bellhop check tells all of it")
	}
	return f, nil
}

func fleetTargets(f *fleet.Fleet, expr string) ([]link.Target, error) {
	hosts, err := f.Select(expr)
	if err != nil {
		return nil, fmt.Errorf("choose hosts: %w", err)
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("choose hosts: %q names none", expr)
	}
	ts := make([]link.Target, len(hosts))
	for i, h := range hosts {
		t, err := fleetTarget(f, h, 0)
		if err != nil {
			return nil, err
		}
		ts[i] = *t
	}
	return ts, nil
}

// fleetTarget says how a host of the config is reached.
func fleetTarget(f *fleet.Fleet, h *fleet.Host, depth int) (*link.Target, error) {
	t := &link.Target{Name: h.Name, Addresses: h.Addresses, HostKeys: h.HostKeys, User: h.User, Arch: h.Arch}
	if h.Jump == "" {
		return t, nil
	}
	via, ok := f.Host(h.Jump)
	if !ok || depth > 8 {
		return nil, fmt.Errorf("%s: no way through jump host %s", h.Name, h.Jump)
	}
	var err error
	t.Jump, err = fleetTarget(f, via, depth+1)
	return t, err
}

// remembered lists hosts as history knows them.
func (r *reach) remembered(expr string) ([]link.Target, error) {
	db, err := history.OpenRead(newState(r.stateDir).path("bellhop.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint(errors.New("no config repo here or above, and no state directory that remembers hosts"),
			"cd to the config repo, or give --dir or --state-dir")
	} else if err != nil {
		return nil, err
	}
	defer db.Close()
	all := db.Hosts()
	names, err := selectHosts(all, expr)
	if err != nil {
		return nil, err
	}
	ts := make([]link.Target, len(names))
	for i, n := range names {
		t, err := rememberedTarget(all, n, 0)
		if err != nil {
			return nil, err
		}
		ts[i] = *t
	}
	return ts, nil
}

func rememberedTarget(all map[string]history.Host, name string, depth int) (*link.Target, error) {
	h, ok := all[name]
	if !ok || depth > 8 || len(h.Reach.Addresses) == 0 {
		return nil, fmt.Errorf("%s: nothing is remembered of how it is reached", name)
	}
	t := &link.Target{Name: h.Name, Addresses: h.Reach.Addresses, HostKeys: h.Reach.HostKeys, User: h.Reach.User, Arch: h.Arch}
	if h.Reach.Jump == "" {
		return t, nil
	}
	var err error
	t.Jump, err = rememberedTarget(all, h.Reach.Jump, depth+1)
	return t, err
}

// selectHosts is fleet's Select where there is no fleet: the hosts that history remembers, by
// name, glob and tag, and ! to exclude. A word that fits nobody is an error here, too.
func selectHosts(all map[string]history.Host, expr string) ([]string, error) {
	names := slices.Sorted(maps.Keys(all))
	in, only := map[string]bool{}, true
	picks := strings.FieldsFunc(expr, func(r rune) bool { return r == ',' || r == ' ' })
	slices.SortStableFunc(picks, func(a, b string) int { return excludes(a) - excludes(b) })
	for _, p := range picks {
		not := excludes(p) == 1
		if !not {
			only = false
		} else if only {
			in, only = everyone(names), false
		}
		hits := 0
		for _, n := range names {
			hit, err := fits(strings.TrimPrefix(p, "!"), n, all[n].Reach.Tags)
			if err != nil {
				return nil, fmt.Errorf("choose hosts: %s: %w", p, err)
			} else if hit {
				hits++
				in[n] = !not
			}
		}
		if hits == 0 {
			return nil, hint(fmt.Errorf("choose hosts: no host fits %q", strings.TrimPrefix(p, "!")), "bellhop status lists them")
		}
	}
	if only {
		in = everyone(names)
	}
	if names = slices.DeleteFunc(names, func(n string) bool { return !in[n] }); len(names) == 0 && expr != "" {
		return nil, fmt.Errorf("choose hosts: %q names none", expr)
	}
	return names, nil
}

func excludes(pick string) int {
	if strings.HasPrefix(pick, "!") {
		return 1
	}
	return 0
}

func everyone(names []string) map[string]bool {
	in := map[string]bool{}
	for _, n := range names {
		in[n] = true
	}
	return in
}

// fits tells whether one word of a selection means a host.
func fits(word, name string, tags []string) (bool, error) {
	tag, tagged := strings.CutPrefix(word, "@")
	if !tagged {
		return path.Match(word, name)
	}
	for _, t := range tags {
		if ok, err := path.Match(tag, t); ok || err != nil {
			return ok, err
		}
	}
	_, err := path.Match(tag, "")
	return false, err
}

// pool opens connections as the deployer where its key can be read, else as the user: their
// agent first, then their own keys.
func (e *Env) pool(r *reach) (*link.Pool, error) {
	signers, err := e.signers(r)
	if err != nil {
		return nil, err
	}
	return link.NewPool(link.Config{Signers: signers}), nil
}

func (e *Env) signers(r *reach) (func() ([]ssh.Signer, error), error) {
	st := newState(r.stateDir)
	if r.sshKey != "" {
		st.sshKey = r.sshKey
	}
	key, err := st.signer()
	if err == nil {
		return func() ([]ssh.Signer, error) { return []ssh.Signer{key}, nil }, nil
	}
	if r.sshKey != "" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return e.userSigners(), nil
}

// userSigners are the keys of the person at the keyboard.
func (e *Env) userSigners() func() ([]ssh.Signer, error) {
	agent := link.AgentSigners()
	return func() ([]ssh.Signer, error) {
		var all []ssh.Signer
		if e.Getenv("SSH_AUTH_SOCK") != "" {
			if s, err := agent(); err == nil {
				all = append(all, s...)
			}
		}
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			b, err := os.ReadFile(path.Join(e.Getenv("HOME"), ".ssh", name))
			if err != nil {
				continue
			}
			if s, err := ssh.ParsePrivateKey(b); err == nil {
				all = append(all, s)
			}
			clear(b)
		}
		if len(all) == 0 {
			return nil, errors.New("no key to log in with: the deployer's is not readable, and there is no agent and no key in ~/.ssh without a passphrase")
		}
		return all, nil
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
