package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bellhop/internal/fleet"
	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/precommit"
)

// Private keys of the person or the server at work, and the rules of the repo.

// An identityFlags says which private keys open secrets.
type identityFlags struct {
	files    []string
	stateDir string
}

func (f *identityFlags) flags(c *cobra.Command) {
	c.Flags().StringSliceVarP(&f.files, "identity", "i", nil, "age identity or SSH private key file; repeatable (default: the deployer's and your own)")
	if err := c.Flags().SetAnnotation("identity", secretFile, []string{"1"}); err != nil {
		panic(err)
	}
	_ = c.MarkFlagFilename("identity")
	stateDirFlag(c, &f.stateDir)
}

// open loads the identities. Those named must be there; of the usual places, those that are.
// A nil ask asks nobody for a passphrase.
func (f *identityFlags) open(e *Env, ask func(string) ([]byte, error)) (*agefile.Identities, error) {
	load := func(files ...string) (*agefile.Identities, error) {
		return agefile.Sources{Files: files, Passphrase: ask, Plugins: e.plugins()}.Load()
	}
	if len(f.files) > 0 {
		return load(f.files...)
	}

	var files []string
	for _, path := range append([]string{newState(f.stateDir).identity}, e.ownIdentities()...) {
		if _, err := load(path); err == nil { // what is not there, or not ours, is no news
			files = append(files, path)
		}
	}

	if len(files) == 0 {
		return nil, hint(errors.New("no identity to open secrets with"),
			"name one with -i FILE or BELLHOP_IDENTITY; bellhop init makes one in %s", e.ownIdentities()[0])
	}

	return load(files...)
}

// openQuietly loads the identities that open without anybody's help: nobody is asked for a passphrase,
// and no plugin is run.
func (f *identityFlags) openQuietly() (*agefile.Identities, error) {
	files := f.files
	if len(files) == 0 {
		files = append([]string{newState(f.stateDir).identity}, agefile.PersonFiles()...)
	}

	quiet := agefile.Sources{Passphrase: neverAsked}
	var usable []string
	for _, path := range files {
		quiet.Files = []string{path}
		if _, err := quiet.Load(); err == nil {
			usable = append(usable, path)
		}
	}

	if len(usable) == 0 {
		return nil, agefile.ErrNoIdentity
	}

	quiet.Files = usable
	return quiet.Load()
}

// plugins are run for a person at a terminal, found on their PATH; a server runs none
// (serve.go).
func (e *Env) plugins() agefile.Plugins {
	return agefile.Plugins{
		Path: true,
		Show: func(message string) { fmt.Fprintln(e.Stderr, message) },
		Ask: func(prompt string, _ bool) (string, error) {
			b, err := e.askSecret(prompt)
			return string(b), err
		},
	}
}

// passphrase asks for one, unless the environment has it.
func (e *Env) passphrase(prompt string) ([]byte, error) {
	if v, err := e.secretEnv("BELLHOP_PASSPHRASE"); v != "" || err != nil {
		return []byte(v), err
	}
	b, err := e.askSecret(prompt)
	if errors.Is(err, errNoTerminal) {
		err = hint(err, "set BELLHOP_PASSPHRASE_FILE: a file, or a systemd credential")
	}
	return b, err
}

var errNoTerminal = errors.New("there is no terminal")

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}

// askSecret reads a line from the terminal without showing it: stdin may be something else.
func (e *Env) askSecret(prompt string) ([]byte, error) {
	prompt = strings.TrimRight(prompt, ": ")
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for the %s: %w", lowerFirst(prompt), errNoTerminal)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s: ", prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return b, err
}

// rulesOf reads who reads what from the config repo in dir.
func rulesOf(dir string) (secrets.Rules, error) {
	r, err := fleet.ReadReaders(context.Background(), os.DirFS(dir))
	if err != nil {
		return secrets.Rules{}, err
	}
	rules := asRules(r)
	rules.Past = sync.OnceValue(func() map[agefile.Fingerprint]string { return formerReaders(context.Background(), dir) })
	return rules, nil
}

// maxFormer is how many commits that changed bellhop.yaml are looked at for former readers.
const maxFormer = 100

// formerReaders names who was a reader once, by git's history of bellhop.yaml: the newest name of
// each key. What can't be read of it is left out: it only makes messages better.
func formerReaders(ctx context.Context, dir string) map[agefile.Fingerprint]string {
	past := map[agefile.Fingerprint]string{}
	out, err := git(dir, "log", "--format=%H", fmt.Sprintf("--max-count=%d", maxFormer), "--", fleetFile)
	if err != nil || out == "" {
		return past
	}
	for commit := range strings.SplitSeq(out, "\n") {
		tree, err := precommit.Committed(dir, commit)
		if err != nil || tree == nil {
			continue
		}
		r, _ := fleet.ReadReaders(ctx, tree)
		for key, name := range asRules(r).NameOf() {
			if past[key] == "" {
				past[key] = name
			}
		}
	}

	return past
}

// asRules gives fleet's readers the form that secrets knows.
func asRules(r fleet.Readers) secrets.Rules {
	rules := secrets.Rules{Names: r.Names, Allow: r.Allow}
	for _, x := range r.Rules {
		rules.Rules = append(rules.Rules, secrets.Rule(x))
	}
	return rules
}
