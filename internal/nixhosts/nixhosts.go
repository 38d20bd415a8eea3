// Package nixhosts brings the NixOS systems of a fleet's hosts and the fleet together: what is evaluated for which
// host, and what becomes of the keys that a configuration names.
//
// Its promise: what is wrong with one host, or can't be built for it, is told of that host and stops no other; and
// the value of a key that stands in a configuration is in memory alone.
package nixhosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/child"
	"bellhop/internal/fleet"
	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtree"
)

// Hosts evaluates and builds the systems of hosts. Its exported fields are set before its first use.
type Hosts struct {
	Nix *nixos.Nix
	// KeyCommands lets the keyCommand of a configuration run, with the rights of this process.
	KeyCommands bool
	// Patience is how long Systems waits for systems that are being made. Hosts whose system is not there by then
	// are told Later, and Ended is called once it is worthwhile to ask again. 0: Systems waits to the end.
	Patience time.Duration
	Ended    func()
	// On runs commands on a host by its name, for hosts that evaluate their system themselves. Nil: none does.
	On func(host string) nixos.Shell
	// Log gets a line for each evaluation of Evaluate that failed as a whole. Nil: none.
	Log *slog.Logger

	jobs  jobs
	mu    sync.Mutex
	texts texts
}

// ServerPatience is the Patience of a server.
const ServerPatience = 30 * time.Second

// New has systems evaluated and built by the Nix of this machine, or its worker, with files below dir.
func New(dir string, importFromDerivation, keyCommands bool) *Hosts {
	nix := &nixos.Nix{Dir: dir, ImportFromDerivation: importFromDerivation, Worker: nixos.WorkerSocket}
	return &Hosts{Nix: nix, KeyCommands: keyCommands}
}

// texts are values of keys that stand in the configurations of one source.
type texts struct {
	source string // its key
	values map[string]map[string]string
}

// keptFor is how long a built system is kept that no host wants any more: to go back to it.
const keptFor = 30 * 24 * time.Hour

// Systems evaluates and builds the systems of hosts as tree has them; fleet.Loader.Systems is this.
func (h *Hosts) Systems(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
	return h.systems(ctx, &h.jobs.runs, tree, commit, hosts)
}

// SystemsAside is Systems for a plan of what is not to be deployed. Systems does not wait for what it builds.
func (h *Hosts) SystemsAside(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
	return h.systems(ctx, &h.jobs.plans, tree, commit, hosts)
}

func (h *Hosts) systems(ctx context.Context, l *line, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
	all := map[string]*fleet.HostSystem{}
	fail := func(err error) map[string]*fleet.HostSystem {
		for _, host := range hosts {
			all[host.Name] = &fleet.HostSystem{Err: asError(err)}
		}
		return all
	}

	source, err := nixtree.NewSource(tree, commit)
	if err != nil {
		return fail(err)
	}

	asks := asksOf(hosts)
	if l == &h.jobs.plans {
		asks = slices.DeleteFunc(asks, func(a nixos.Ask) bool {
			if a.EvaluatesOnHost() {
				all[a.Host] = &fleet.HostSystem{Err: &fleet.SystemError{Text: notAside}}
			}
			return a.EvaluatesOnHost()
		})
	}

	made, err := h.make(ctx, l, source, asks)
	if err != nil && !errors.Is(err, errLater) {
		return fail(err)
	}

	for _, a := range asks {
		if _, isKnown := made.systems[a.Host]; !isKnown && err != nil {
			all[a.Host] = &fleet.HostSystem{Err: asError(err)}
			continue
		}
		if away := made.away[a.Host]; away != nil {
			all[a.Host] = &fleet.HostSystem{Err: &fleet.SystemError{Text: "it evaluates its NixOS system itself, and could not be asked: " + away.Error(), Later: true}}
			continue
		}
		all[a.Host] = h.result(tree, source, a, made.systems[a.Host], made.failures[a.Host])
	}

	return all
}

func asksOf(hosts []*fleet.Host) []nixos.Ask {
	var asks []nixos.Ask
	for _, host := range hosts {
		asks = append(asks, nixos.Ask{Host: host.Name, Attr: host.NixOS.Attr, File: host.NixOS.File, OnHost: host.NixOS.OnHost})
	}
	return asks
}

func goodOf(systems map[string]nixos.System) map[string]nixos.System {
	good := maps.Clone(systems)
	maps.DeleteFunc(good, func(_ string, s nixos.System) bool { return s.Err != "" })
	return good
}

// outsOf is what is kept of systems, whoever builds them.
func outsOf(systems map[string]nixos.System) []string {
	var outs []string
	for _, s := range systems {
		outs = append(outs, s.Out, s.Drv)
	}
	return outs
}

// notAside is why a plan of what is not to be deployed has no system of a host that evaluates itself.
const notAside = "NixOS: without Nix on the deployer the host itself evaluates its system, and it is asked for what is to be deployed alone"

// asError is err as a host tells it.
func asError(err error) error {
	if errors.Is(err, errLater) {
		return &fleet.SystemError{Text: errLater.Error(), Later: true}
	}
	var f *nixos.Failure
	if errors.As(err, &f) {
		return &fleet.SystemError{Text: "NixOS: " + f.Text, Lines: f.Lines}
	}
	return &fleet.SystemError{Text: "NixOS: " + err.Error()}
}

// result is what came of one host.
func (h *Hosts) result(tree fs.FS, source *nixtree.Source, a nixos.Ask, s nixos.System, failed *nixos.Failure) *fleet.HostSystem {
	switch {
	case s.Err != "":
		return &fleet.HostSystem{Err: &fleet.SystemError{Text: "NixOS: " + s.Err, Lines: s.Lines}}
	case failed != nil:
		return &fleet.HostSystem{Err: asError(failed)}
	}

	out := &fleet.HostSystem{Path: s.Out}
	for i := range s.Keys {
		k, notice, err := h.key(tree, source, a, &s.Keys[i])
		if err != nil {
			return &fleet.HostSystem{Err: &fleet.SystemError{Text: fmt.Sprintf("NixOS: deployment.keys.%s: %v", s.Keys[i].Name, err)}}
		}
		out.Keys = append(out.Keys, k)
		if notice != "" {
			out.Notices = append(out.Notices, fmt.Sprintf("deployment.keys.%s: %s", k.Name, notice))
		}
	}

	return out
}

// key is a key of a configuration as the fleet has keys, and what a person should hear of it.
func (h *Hosts) key(tree fs.FS, source *nixtree.Source, a nixos.Ask, k *nixos.Key) (out fleet.SystemKey, notice string, err error) {
	out = fleet.SystemKey{Key: bundle.Key{Name: k.Name, Path: k.Path, User: k.User, Group: k.Group, Mode: k.Mode}, File: k.File}
	switch {
	case k.File != "":
		if _, err := fs.Stat(tree, k.File); err != nil {
			return out, "", fmt.Errorf("keyFile %s is not in the repo", k.File)
		}
		if !strings.HasSuffix(k.File, ".age") {
			notice = fmt.Sprintf("keyFile %s is in the repo as it is, and every user of the deployer can read it in the Nix store: seal it with bellhop secret set, and name the .age file", k.File)
		}
	case k.Local != "":
		return out, "", fmt.Errorf("keyFile %s is a file of the deployer's machine, and the value of a key comes from the repo: "+
			"bellhop secret set secrets/%s.age < %s, and keyFile = ./secrets/%s.age;", k.Local, k.Name, k.Local, k.Name)
	case k.Text:
		notice = fmt.Sprintf("text stands in the repo, and every user of the deployer can read it in the Nix store: bellhop secret set secrets/%s.age, and keyFile = ./secrets/%s.age;", k.Name, k.Name)
		out.Value = func() ([]byte, error) { return h.text(source, a, k.Name) }
	case !h.KeyCommands:
		return out, "", errors.New("keyCommand would run with the rights of the deployer, and is allowed by --allow-key-command alone")
	default:
		out.Value = func() ([]byte, error) { return runKeyCommand(k.Command) }
	}

	return out, notice, nil
}

// text is the value of a key that stands in a configuration. It is evaluated once for each source.
func (h *Hosts) text(source *nixtree.Source, a nixos.Ask, name string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.texts.source != source.Key {
		h.texts = texts{source: source.Key, values: map[string]map[string]string{}}
	}
	if h.texts.values[a.Host] == nil {
		found, err := h.Nix.Texts(context.Background(), source, []nixos.Ask{a})
		if err != nil {
			return nil, err
		}
		h.texts.values[a.Host] = found[a.Host]
	}

	v, ok := h.texts.values[a.Host][name]
	if !ok {
		return nil, fmt.Errorf("the configuration of %s has no text for key %s any more", a.Host, name)
	}

	return []byte(v), nil
}

const (
	keyCommandTime = time.Minute
	maxKey         = 1 << 20
)

// runKeyCommand is what a command prints. What it says beside that is not repeated: it may quote the value.
func runKeyCommand(argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyCommandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = child.Env(child.Plugin)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("keyCommand %s failed", filepath.Base(argv[0]))
	}
	if len(out) > maxKey {
		clear(out)
		return nil, fmt.Errorf("keyCommand %s gave more than %d bytes", filepath.Base(argv[0]), maxKey)
	}

	return out, nil
}
