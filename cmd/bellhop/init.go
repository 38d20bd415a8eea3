package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/internal/newrepo"
	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
)

type initOptions struct {
	dir, network, deployer string
	readers                []string
	stateDir               string
	hosts                  string // as bellhop.yaml has them; "": none
}

func initCmd(e *Env) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use: "init [DIR]", Short: "Start a config repo", GroupID: groupRepo, Args: cobra.MaximumNArgs(1),
		Long: `Start a config repo: bellhop.yaml, .gitignore, .gitattributes and git's pre-commit hook.

Files that exist are left as they are. Give the two lines that bellhop serve printed with --reader
deployer=age1… and --deployer 'ssh-ed25519 …'; on the machine that deploys they are read from the
state directory. You become a reader too: with --reader NAME=KEY, with the age identity that you
have, or with a new one in ~/.config/bellhop/identity.age.`,
		Example: "  bellhop init --reader cadey=age1… --reader deployer=age1… --deployer 'ssh-ed25519 AAAA…'",
		RunE: func(_ *cobra.Command, args []string) error {
			o.dir = "."
			if len(args) == 1 {
				o.dir = args[0]
			}
			return initRepo(e, o)
		},
	}
	o.flags(c)
	return c
}

func (o *initOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.network, "network", "", "the network's name (default: the folder's)")
	c.Flags().StringArrayVar(&o.readers, "reader", nil, "NAME=KEY of someone who can open the secrets; repeatable")
	c.Flags().StringVar(&o.deployer, "deployer", "", "the deployer's SSH public key, as bellhop serve printed it")
	stateDirFlag(c, &o.stateDir)
}

func initRepo(e *Env, o initOptions) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	// A bare repository, or the folder .git: what lies there is git's own.
	if inside, err := git(o.dir, "rev-parse", "--is-inside-git-dir"); err == nil && inside == "true" {
		return hint(fmt.Errorf("init %s: this is a folder of git's own, and no work tree", o.dir), "run it in a clone: git clone %s", o.dir)
	}
	if err := initFleet(e, &o); err != nil {
		return err
	}

	for _, f := range []struct{ name, content string }{{".gitignore", newrepo.Gitignore}, {".gitattributes", newrepo.Gitattributes}} {
		fresh, err := newrepo.Write(filepath.Join(o.dir, f.name), f.content, 0o644)
		if err != nil {
			return err
		}
		e.wrote(f.name, fresh)
	}

	if err := installHook(e, o.dir); err != nil {
		fmt.Fprintf(e.Stdout, "  %s %v\n", e.outPaint().yellow("no hook:"), err)
		if h := hintFor(err); h != "" {
			fmt.Fprintf(e.Stdout, "  hint: %s\n", h)
		}
	}

	nextSteps(e, o)
	return nil
}

func (e *Env) wrote(name string, fresh bool) {
	p := e.outPaint()
	if fresh {
		fmt.Fprintf(e.Stdout, "  %s %s\n", p.green("wrote"), name)
	} else {
		fmt.Fprintf(e.Stdout, "  %s %s as it is\n", p.dim("left"), name)
	}
}

// initFleet writes bellhop.yaml with what is known.
func initFleet(e *Env, o *initOptions) error {
	path := filepath.Join(o.dir, fleetFile)
	if _, err := os.Stat(path); err == nil {
		e.wrote(fleetFile, false)
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	if err := fillReaders(e, o); err != nil {
		return err
	}
	if o.network == "" {
		o.network = newrepo.NetworkName(o.dir)
	}

	_, err := newrepo.Write(path, newrepo.Fleet{Network: o.network, Readers: o.readers, Deployer: o.deployer, Hosts: o.hosts}.Text(), 0o644)
	if err == nil {
		e.wrote(fleetFile, true)
	}

	return err
}

// fillReaders adds what this machine knows: the deployer, when its state directory is here,
// and the person at the keyboard.
func fillReaders(e *Env, o *initOptions) error {
	st := newState(o.stateDir)
	if o.deployer == "" {
		if key, err := st.signer(); err == nil {
			o.deployer = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " bellhop"
		}
	}

	names := map[string]bool{}
	for _, r := range o.readers {
		name, key, ok := strings.Cut(r, "=")
		if !ok || name == "" || key == "" {
			return fmt.Errorf("read --reader %s: want NAME=KEY", r)
		}
		names[name] = true
	}

	if !names["deployer"] {
		if key := agefile.PublicOf(st.identity); key != "" {
			o.readers = append(o.readers, "deployer="+key)
			names["deployer"] = true
		}
	}
	if len(names) > 1 || len(names) == 1 && !names["deployer"] {
		return nil
	}

	key, err := ownReader(e)
	if err != nil {
		return err
	}

	o.readers = append([]string{e.userName() + "=" + key}, o.readers...)
	return nil
}

// ownReader finds the user's own identity, or makes one.
func ownReader(e *Env) (string, error) {
	for _, path := range e.ownIdentities() {
		if key := agefile.PublicOf(path); key != "" {
			return key, nil
		}
	}

	path := filepath.Join(e.configHome(), "bellhop", "identity.age")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make your age identity: %w", err)
	}
	if _, err := privatefile.Make(path, agefile.NewIdentity); err != nil {
		return "", fmt.Errorf("make your age identity: %w", err)
	}

	fmt.Fprintf(e.Stdout, "  %s %s: your age identity, keep a copy\n", e.outPaint().green("wrote"), path)
	return agefile.PublicOf(path), nil
}

func (e *Env) configHome() string {
	if dir := e.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(e.Getenv("HOME"), ".config")
}

// ownIdentities are the places where a person's age identity may lie, in order.
func (e *Env) ownIdentities() []string {
	config, home := e.configHome(), e.Getenv("HOME")
	return []string{
		filepath.Join(config, "bellhop", "identity.age"),
		filepath.Join(config, "age", "keys.txt"),
		filepath.Join(config, "sops", "age", "keys.txt"),
		filepath.Join(home, ".ssh", "id_ed25519"),
	}
}

func (e *Env) userName() string {
	name := e.Getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	if name = newrepo.Word(name); name == "" || name == "deployer" {
		return "me"
	}
	return name
}

func nextSteps(e *Env, o initOptions) {
	p := e.outPaint()
	text, _ := os.ReadFile(filepath.Join(o.dir, fleetFile))
	fmt.Fprintf(e.Stdout, "\n%s\n", p.bold("Next:"))
	if strings.Contains(string(text), "# deployer: ") {
		fmt.Fprintln(e.Stdout, "  on the machine that deploys: bellhop serve --repo URL, and paste its lines into bellhop.yaml")
	}
	fmt.Fprintln(e.Stdout, "  bellhop host add NAME root@ADDRESS      add a host, and pin its host key")
	fmt.Fprintln(e.Stdout, "  bellhop secret edit secrets/NAME.age    edit a secret, encrypted for the readers")
	fmt.Fprintln(e.Stdout, "  bellhop check                           check the config")
	fmt.Fprintln(e.Stdout, "  git add -A && git commit && git push")
}
