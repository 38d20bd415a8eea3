// Package nixfleet reads the hosts of a NixOps network or a Colmena hive, for a repo that goes over to bellhop.
//
// A network or a hive is a Nix file, or an output of a flake, with a module for each host. Reading one evaluates it
// with the nixpkgs that it names, as NixOps and Colmena do, and with the rights of whoever asks.
//
// Its promises: nothing is written, built or copied; no value of a key leaves the evaluation; and where Nix or the
// evaluation fails, the error names the file, the host that was under way, and what Nix said.
package nixfleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/nixos"
	"bellhop/internal/plain"
)

// A Kind is the tool whose files are read.
type Kind struct {
	Name  string   // as people write it: "Colmena"
	Files []string // that it reads, in order, in its folder
	Attr  string   // of a flake, for messages
	isNew bool     // Colmena: a host without an address is called by its name
}

// The kinds.
var (
	NixOps  = Kind{Name: "NixOps", Files: []string{"network.nix", "nixops.nix"}, Attr: "nixopsConfigurations.default"}
	Colmena = Kind{Name: "Colmena", Files: []string{"hive.nix"}, Attr: "colmena", isNew: true}
)

// A Fleet is what a network or a hive says of its hosts.
type Fleet struct {
	File        string // that was read
	Description string // of the network; "" where it has none
	Hosts       []Host // by name
	// Systems are the nixosConfigurations of the flake that was read.
	Systems []string
}

// A Host is one machine of a fleet.
type Host struct {
	Name    string
	Address string   // name or address, with :port where it is not 22; "" where none is given
	User    string   // "" where none is given
	Tags    []string // sorted
	Keys    []Key
	IsAlone bool // it is deployed on itself alone, and not over SSH
}

// A Key is one of deployment.keys of a host, less its value.
type Key struct {
	Name    string
	Attr    string   // its name in deployment.keys
	File    string   // relative to the folder that was read where it is below that, else absolute; "" where the value is no file
	Command []string // that prints the value
	IsText  bool     // the value stands in the configuration
}

// ErrNothing says that a folder has no file that the kind reads.
var ErrNothing = errors.New("there is nothing to read")

// Read evaluates the network or hive in dir, which may be the file itself.
func Read(ctx context.Context, nix *nixos.Nix, kind Kind, dir string) (*Fleet, error) {
	if !nixos.Installed() {
		return nil, nixos.ErrNoNix
	}
	folder, file, err := find(kind, dir)
	if err != nil {
		return nil, err
	}

	flake, named := "", file
	if file == "" {
		flake, named = "path:"+folder, filepath.Join(folder, "flake.nix")
	}
	expr := fmt.Sprintf("(%s) { file = %s; flake = %s; isColmena = %t; }", readExpr, nixos.Quote(file), nixos.Quote(flake), kind.isNew)

	var out evaluated
	at := ""
	err = nix.Value(ctx, expr, &out, func(text string) {
		if _, host, found := strings.Cut(text, "trace: bellhop host "); found {
			at = plain.Text(strings.TrimSpace(host), 64)
		}
	})
	if err != nil {
		return nil, &Error{File: named, Host: at, Err: err}
	}

	return out.fleet(folder, named), nil
}

// An Error is an evaluation that failed.
type Error struct {
	File string
	Host string // that was under way; "" where none was
	Err  error  // a *nixos.Failure where Nix said why
}

func (e *Error) Error() string {
	if e.Host != "" {
		return fmt.Sprintf("evaluate %s: host %s: %v", e.File, e.Host, e.Err)
	}
	return fmt.Sprintf("evaluate %s: %v", e.File, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// find is the folder, and the file in it; "" for its flake.
func find(kind Kind, dir string) (folder, file string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", "", err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", "", err
	}
	if !info.IsDir() {
		return filepath.Dir(dir), dir, nil
	}

	for _, name := range append(kind.Files, "flake.nix") {
		path := filepath.Join(dir, name)
		_, err := os.Stat(path)
		switch {
		case err == nil && name == "flake.nix":
			return dir, "", nil
		case err == nil:
			return dir, path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", "", err
		}
	}

	return "", "", fmt.Errorf("%w in %s: %s reads %s, or %s of a flake.nix", ErrNothing, dir, kind.Name, strings.Join(kind.Files, " or "), kind.Attr)
}

// evaluated is what readExpr gives.
type evaluated struct {
	Description, Source string
	Systems             []string
	Hosts               []struct {
		Name, Address, User string
		Port                int
		IsAlone             bool
		Tags                []string
		Keys                []struct {
			Name, Attr, File string
			Text             bool
			Command          []string
		}
	}
}

func (e *evaluated) fleet(folder, file string) *Fleet {
	f := &Fleet{File: file, Description: e.Description, Systems: e.Systems}
	for _, h := range e.Hosts {
		slices.Sort(h.Tags)
		host := Host{Name: h.Name, Address: h.Address, User: h.User, Tags: slices.Compact(h.Tags), IsAlone: h.IsAlone}
		if h.Port != 0 && h.Port != 22 && h.Address != "" {
			host.Address = net.JoinHostPort(h.Address, strconv.Itoa(h.Port))
		}
		for _, k := range h.Keys {
			host.Keys = append(host.Keys, Key{Name: k.Name, Attr: k.Attr, File: relative(k.File, e.Source, folder), Command: k.Command, IsText: k.Text})
		}
		f.Hosts = append(f.Hosts, host)
	}

	return f
}

// relative is file as seen from the folder that was read, or from its copy in the store.
func relative(file string, roots ...string) string {
	for _, root := range roots {
		if rest, below := strings.CutPrefix(file, root+"/"); below && root != "" {
			return rest
		}
	}
	return file
}
