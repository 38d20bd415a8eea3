package nixos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"bellhop/internal/child"
)

// DaemonSocket is where Nix's daemon listens.
const DaemonSocket = "/nix/var/nix/daemon-socket/socket"

// An About tells how the Nix of this machine runs the code of a configuration.
type About struct {
	Version    string // as nix --version has it
	Daemon     bool   // it builds, not the user who asks
	BuildUsers string // the group of users as whom builders run; "": they run as who builds
	Sandbox    string // true, false or relaxed
	Root       bool   // who asks is root
}

// aboutTime bounds each question.
const aboutTime = 20 * time.Second

// Describe asks the Nix of this machine. Its settings are those that this process sees.
func Describe(ctx context.Context) (*About, error) {
	version, err := ask(ctx, "--version")
	if err != nil {
		return nil, err
	}

	a := &About{Version: strings.TrimSpace(string(version)), Root: os.Getuid() == 0}
	text, err := ask(ctx, "--extra-experimental-features", "nix-command", "config", "show", "--json")
	if err != nil { // until Nix 2.20 it had another name
		text, err = ask(ctx, "--extra-experimental-features", "nix-command", "show-config", "--json")
	}
	if err != nil {
		return nil, err
	}

	var settings map[string]struct {
		Value any `json:"value"`
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, fmt.Errorf("read the settings of Nix: %w", err)
	}

	setting := func(name string) string {
		if v := settings[name].Value; v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}

	a.Sandbox, a.BuildUsers = setting("sandbox"), setting("build-users-group")

	_, socketErr := os.Stat(DaemonSocket)
	a.Daemon = os.Getenv("NIX_REMOTE") == "daemon" || socketErr == nil && !a.Root
	return a, nil
}

func ask(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, aboutTime)
	defer cancel()
	path, err := program("nix")
	if err != nil {
		return nil, err
	}

	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = child.Env(nil)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("nix: " + firstNonEmpty(headline(strings.Split(said.String(), "\n")), err.Error()))
	}

	return out, nil
}

// String is a in a line.
func (a *About) String() string {
	who := "who asks builds"
	if a.Daemon {
		who = "a daemon builds"
	}
	users := "without build users"
	if a.BuildUsers != "" {
		users = "with the build users of " + a.BuildUsers
	}

	return fmt.Sprintf("%s: %s, %s, sandbox %s", a.Version, who, users, firstNonEmpty(a.Sandbox, "not known"))
}

// Unsafe says what a builder of a configuration could do to this machine; "" when it is kept apart.
func (a *About) Unsafe() string {
	isRoot := a.BuildUsers == "" && (a.Daemon || a.Root)
	switch {
	case a.Sandbox != "false" && a.Sandbox != "":
		return ""
	case isRoot:
		return "builders run as root without a sandbox, and can do anything here"
	case a.BuildUsers == "":
		return "builders run as the user who asks, without a sandbox"
	}

	return "builders run without a sandbox, and can read what any user can"
}

// An Examined is one thing that was looked at.
type Examined struct {
	What, Found string
	Risk        string // what somebody could do; "" for nothing
	Advice      string // what to do about Risk
	Err         error  // why it can't be told
}

// Examine tells how systems are evaluated and built on this machine; nothing where dir, which Nix.Dir is, is not there, and
// no worker either.
func Examine(ctx context.Context, dir string) []Examined {
	isApart := HasWorker(WorkerSocket)
	if _, err := os.Stat(dir); err != nil && !isApart || !Installed() {
		return nil
	}

	evaluation := Examined{What: "evaluation of NixOS", Found: "by the worker of " + WorkerSocket + ", which cannot see the state directory"}
	if !isApart {
		evaluation.Found = "by bellhop's own user"
		evaluation.Risk = "a configuration is code, and runs as the user who can read the state directory"
		evaluation.Advice = "install contrib/bellhop-nix.socket and contrib/bellhop-nix@.service"
	}

	about, err := Describe(ctx)
	if err != nil {
		return []Examined{evaluation, {What: "nix", Err: err}}
	}

	builders := Examined{What: "nix", Found: about.String()}
	if unsafe := about.Unsafe(); unsafe != "" {
		builders.Risk, builders.Advice = "unsafe: "+unsafe, "in nix.conf: sandbox = true, and a daemon with build-users-group = nixbld"
	}

	return []Examined{evaluation, builders}
}
