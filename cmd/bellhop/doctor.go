package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/internal/history"
	"bellhop/internal/owner"
	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
	"bellhop/server"
)

// doctor looks at what a person has in front of them: the repo, if it is here, and the
// deployer's directory, if that is. It changes nothing and dials no host.

// A symptom is one thing that was looked at. A nil err is health.
type symptom struct {
	what string
	note string // what was found
	err  error  // what is wrong
	warn error  // what works, and may cost somebody much one day; it does not change the exit code
}

func doctorCmd(e *Env) *cobra.Command {
	var f identityFlags
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Short: "Check the setup: the repo here, your keys, the server", GroupID: groupServer, Args: cobra.NoArgs,
		Long: `Check the repo here, your keys and the state directory, and ask the running server. It ends with what
to do. With --server it looks at the repo here, and then runs on the server's machine.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if serverOf(c) == "" {
				return runDoctor(e, c.Context(), dir, &f, asJSON)
			}
			return doctorElsewhere(e, c, dir, &f, asJSON)
		},
		Annotations: map[string]string{hereFirst: "the repo here"},
	}
	serverFlag(c)
	dirFlag(c, &dir)
	f.flags(c)
	jsonFlag(c, &asJSON)
	return c
}

func runDoctor(e *Env, ctx context.Context, dir string, f *identityFlags, asJSON bool) error {
	var all []symptom
	if at, err := configDir(dir); err == nil {
		all = append(all, doctorRepo(e, at, f)...)
	} else if dir != "" || owner.IsUntrusted(err) {
		return err
	}

	return tellSymptoms(e, append(all, doctorHere(ctx, f.stateDir)...), asJSON)
}

// doctorHere looks at what of the server is on this machine.
func doctorHere(ctx context.Context, stateDir string) []symptom {
	all := []symptom{doctorLoader(ctx)}
	all = append(all, doctorState(stateDir)...)
	all = append(all, doctorNix(ctx, stateDir)...)
	return append(all, doctorServer(ctx, stateDir)...)
}

// doctorElsewhere looks at the repo here, and has the machine of the server look at the rest.
func doctorElsewhere(e *Env, c *cobra.Command, dir string, f *identityFlags, asJSON bool) error {
	at, err := configDir(dir)
	if err != nil || asJSON { // one document, and the server's is the one that was asked for
		return overSSH(e, c)
	}

	here := tellSymptoms(e, doctorRepo(e, at, f), false)
	fmt.Fprintf(e.Stdout, "\n%s\n", e.outPaint().bold(serverOf(c)))
	return errors.Join(here, overSSH(e, c))
}

// tellSymptoms prints what was found, and is an error when something is bad.
func tellSymptoms(e *Env, all []symptom, asJSON bool) error {
	bad := 0
	for _, s := range all {
		if s.err != nil {
			bad++
		}
	}

	if asJSON {
		if err := e.writeJSON(map[string]any{"v": 1, "looks": looksOf(all)}); err != nil {
			return err
		}
	} else {
		printSymptoms(e, all)
	}

	if bad > 0 {
		return exit(exitError)
	}

	return nil
}

// A look is a symptom as doctor --json has it.
type look struct {
	What  string  `json:"what"`
	Found string  `json:"found"`
	Error *string `json:"error"`
	Hint  *string `json:"hint"`
	// Warning is what works and may cost somebody much one day; null when nothing does.
	Warning *string `json:"warning"`
}

func looksOf(all []symptom) []look {
	out := []look{}
	for _, s := range all {
		l := look{What: s.what, Found: s.note}
		if s.err != nil {
			l.Error, l.Hint = some(textOf(s.err)), some(hintFor(s.err))
		}
		if s.warn != nil {
			l.Warning, l.Hint = some(textOf(s.warn)), some(hintFor(s.warn))
		}
		out = append(out, l)
	}
	return out
}

func printSymptoms(e *Env, all []symptom) {
	p := e.outPaint()
	var toDo []string
	for _, s := range all {
		err, word := s.err, p.red("bad")
		if err == nil {
			err, word = s.warn, p.yellow("but")
		}
		if err == nil {
			fmt.Fprintf(e.Stdout, "%s %s%s\n", p.green("ok "), s.what, colon(s.note))
			continue
		}
		fmt.Fprintf(e.Stdout, "%s %s: %s\n", word, s.what, indentRest(textOf(err), "    "))
		h := hintFor(err)
		if h != "" {
			fmt.Fprintf(e.Stdout, "    %s %s\n", p.cyan("hint:"), h)
		}
		toDo = append(toDo, s.what+": "+cmp.Or(h, "mend what is told above"))
	}
	if len(toDo) == 0 {
		return
	}
	fmt.Fprintf(e.Stdout, "\n%s\n", p.bold("What to do"))
	for i, line := range toDo {
		fmt.Fprintf(e.Stdout, "%d. %s\n", i+1, line)
	}
}

func doctorRepo(e *Env, dir string, f *identityFlags) []symptom {
	config := symptom{what: "config"}
	fleet, problems, err := inspectDir(context.Background(), &loadFlags{}, dir)
	switch refuse := countRefusing(problems); {
	case err != nil:
		config.err = err
	case refuse > 0:
		config.err = hint(errors.New(count(refuse, "problem")), "bellhop check")
	default:
		config.note = fmt.Sprintf("%s, %s", fleet.Network, count(len(fleet.Hosts), "host"))
	}

	out := []symptom{config, doctorHook(dir), doctorReaders(dir), doctorSecrets(e, dir, f)}
	if key, err := newState(f.stateDir).signer(); err == nil && fleet != nil {
		s := symptom{what: "deployer", note: ssh.FingerprintSHA256(key.PublicKey())}
		if mine := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))); !strings.HasPrefix(fleet.Deployer, mine) {
			s.err = hint(errors.New("bellhop.yaml names another deployer than this machine"), "deployer: %s", mine)
		}
		out = append(out, s)
	}

	return out
}

func doctorHook(dir string) symptom {
	s := symptom{what: "pre-commit hook"}
	hooks, err := git(dir, "rev-parse", "--git-path", "hooks")
	if err != nil {
		s.err = noRepo(err)
		return s
	}

	if !filepath.IsAbs(hooks) {
		hooks = filepath.Join(dir, hooks)
	}

	text, err := os.ReadFile(filepath.Join(hooks, "pre-commit"))
	if err != nil || !strings.Contains(string(text), "bellhop secret verify --staged") {
		s.err = hint(errors.New("nothing keeps a plaintext secret out of a commit"), "bellhop hook install")
	}

	return s
}

// doctorSecrets tries the identities at hand on every secret.
func doctorSecrets(e *Env, dir string, f *identityFlags) symptom {
	s := symptom{what: "secrets"}
	rules, err := rulesOf(dir)
	if err != nil {
		s.err = err
		return s
	}

	items, err := (&secrets.Store{Dir: dir, Rules: rules}).List()
	if err != nil || len(items) == 0 {
		s.err, s.note = err, "none yet"
		return s
	}

	ids, err := f.open(e, e.passphrase)
	if err != nil {
		s.err = err
		return s
	}

	var closed []string
	for _, it := range items {
		value, err := (&secrets.Store{Dir: dir, Rules: rules, Identities: func() (*agefile.Identities, error) { return ids, nil }}).Show(it.File)
		if err != nil {
			closed = append(closed, it.File)
		}
		clear(value)
	}

	s.note = fmt.Sprintf("you can open %d of %d", len(items)-len(closed), len(items))
	if len(closed) == len(items) {
		s.err = hint(errors.New("you can open none of them"), "bellhop secret who says who can")
	}

	return s
}

// doctorState looks at the deployer's directory, where it may.
func doctorState(dir string) []symptom {
	st := newState(dir)
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []symptom{{what: "state directory", note: dir + " is not on this machine"}}
	case err != nil || !fi.IsDir():
		return []symptom{{what: "state directory", err: fmt.Errorf("%s: %w", dir, err)}}
	}

	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return []symptom{{what: "state directory", note: dir + " is its user's alone"}}
	}

	var out []symptom
	for _, path := range []string{st.identity, st.sshKey, st.webhookSecret, st.path(digestKeyFile)} {
		b, err := privatefile.Read(path)
		clear(b)
		if errors.Is(err, fs.ErrNotExist) {
			err = hint(errors.New("missing"), "bellhop serve makes it")
		}
		out = append(out, symptom{what: path, err: err})
	}

	return out
}

// doctorServer asks the running server how it does.
func doctorServer(ctx context.Context, dir string) []symptom {
	client, err := dial(dir)
	if err != nil {
		return []symptom{{what: "server", err: err}}
	}
	if client == nil {
		return []symptom{{what: "server", note: "none runs here"}}
	}
	defer client.Close()

	status, err := server.Call[history.Status](ctx, client, "status", onRequest{}, nil)
	if err != nil {
		return []symptom{{what: "server", err: fromSocket(err)}}
	}

	out := []symptom{doctorSync(status)}
	if status.Poll != nil {
		out = append(out, doctorPoll(status.Poll))
	}

	out = append(out, doctorWebhook(ctx, client), doctorForge(ctx, client))
	return append(out, doctorDeployer(ctx, client)...)
}

// doctorForge tells what the forge refuses: a token that lacks a right is told with the right's name, where the forge says it.
func doctorForge(ctx context.Context, client *server.Client) symptom {
	s := symptom{what: "forge"}
	a, err := server.Call[forgeAnswer](ctx, client, "forge", nil, nil)
	if err != nil {
		s.err = fromSocket(err)
		return s
	}
	if a.Name == "" {
		s.note = "it is told nothing (no --forge-token)"
		return s
	}

	s.note = a.Name
	var refused []error
	for _, t := range a.Troubles {
		refused = append(refused, fmt.Errorf("%s: %s", t.What, t.Error))
	}
	if len(refused) > 0 {
		s.err = hint(fmt.Errorf("%s: %w", a.Name, errors.Join(refused...)), "docs/forge.md lists the rights that the token needs")
	}
	return s
}

func doctorSync(status history.Status) symptom {
	s := symptom{what: "server", note: countStates(false, status.Hosts)}
	if e := status.SyncError; e != nil {
		s.err = hint(fmt.Errorf("its looks at the repo fail since %s: %s", e.Since.Format(time.RFC3339), e.Error),
			"is the git host up, and may the key of --repo-key, or the token, still read the repo? bellhop deploy looks again at once")
	}
	return s
}

// doctorWebhook finds deliveries that are ignored since they name another repo.
func doctorWebhook(ctx context.Context, client *server.Client) symptom {
	s := symptom{what: "webhook"}
	a, err := server.Call[webhookAnswer](ctx, client, "webhook", nil, nil)
	if err != nil {
		s.err = fromSocket(err)
		return s
	}

	if a.Address == "" {
		s.note = "none is heard (--listen off)"
		return s
	}

	s.note = a.Address
	if o := a.OtherRepo; o != nil {
		s.err = hint(fmt.Errorf("ignored deliveries: %d since the server started name the repo %q, not %s", o.Count, o.Name, a.Repo),
			"if that is the repo that is deployed: bellhop serve --webhook-repo %s", o.Name)
	}

	return s
}

// doctorPoll warns of a server that hears of pushes in one way alone, which may fail.
func doctorPoll(p *history.PollStatus) symptom {
	s := symptom{what: "polling", note: pollLine(p)}
	if p.IntervalMs == 0 {
		s.warn = hint(errors.New("the repo is never polled: a push whose delivery is lost is seen with the next one"), "bellhop serve without --poll 0")
	}
	return s
}

// pollLine says how often the remote is polled, and why.
func pollLine(p *history.PollStatus) string {
	if p.IntervalMs == 0 {
		return "never: " + p.Reason
	}
	return fmt.Sprintf("every %v: %s", time.Duration(p.IntervalMs)*time.Millisecond, p.Reason)
}
