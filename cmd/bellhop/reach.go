package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
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

// config is the fleet of the config repo in front of us; nil where there is none.
func (r *reach) config() (*fleet.Fleet, error) {
	dir, err := configDir(r.dir)
	if err != nil && (r.dir != "" || owner.IsUntrusted(err)) {
		return nil, err // its pins would lead to another's machine
	}
	if dir == "" {
		return nil, nil
	}
	return loadOffline(dir)
}

// targets lists the hosts that expr names ("" is all of them), by name.
func (r *reach) targets(expr string) ([]link.Target, error) {
	f, err := r.config()
	if err != nil {
		return nil, err
	}
	if f != nil {
		return fleetTargets(f, expr)
	}
	return r.remembered(expr)
}

// target finds the one host that a selector names.
func (r *reach) target(name string) (link.Target, error) {
	if strings.TrimSpace(name) == "" {
		return link.Target{}, errEmptyHost
	}
	ts, err := r.targets(name)
	if err != nil {
		return link.Target{}, err
	}
	if len(ts) > 1 {
		return link.Target{}, hint(fmt.Errorf("%s names %d hosts; this takes one", name, len(ts)), "one command on several hosts: bellhop exec %s -- COMMAND", shellQuote(name))
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
		return nil, hint(fmt.Errorf("read the config in %s:\n%w", dir, err), "bellhop check lists every problem")
	}
	return f, nil
}

func fleetTargets(f *fleet.Fleet, expr string) ([]link.Target, error) {
	hosts, err := f.Select(expr)
	if err != nil {
		return nil, hint(fmt.Errorf("choose hosts: %w", err), "bellhop status lists them")
	}
	if len(hosts) == 0 {
		return nil, hint(errors.New("the config has no hosts yet"), "bellhop host add NAME [USER@]ADDRESS")
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

// read opens history for reading.
func (r *reach) read(do func(*history.DB) error) error {
	db, err := history.OpenRead(newState(r.stateDir).path("bellhop.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return hint(errors.New("no config repo here or above, and no state directory that remembers hosts"),
			"cd to the config repo, or give --dir or --state-dir")
	} else if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

// remembered lists hosts as history knows them.
func (r *reach) remembered(expr string) (ts []link.Target, err error) {
	err = r.read(func(db *history.DB) error {
		all := db.Hosts()
		names, err := selectHosts(all, expr)
		if err != nil {
			return err
		}
		for _, name := range names {
			t, err := rememberedTarget(all, name, 0)
			if err != nil {
				return err
			}
			ts = append(ts, *t)
		}

		return nil
	})
	return ts, err
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
