package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/internal/fleet"
	"bellhop/internal/link"
	"bellhop/internal/newhost"
	"bellhop/internal/plain"
	"bellhop/internal/yamledit"
)

func hostCmd(e *Env) *cobra.Command {
	return group(groupHosts, "host", "Add, check and remove hosts, and bring edits from them", hostAddCmd(e), hostCheckCmd(e), hostPullCmd(e), hostRemoveCmd(e))
}

type hostAdd struct {
	reach
	name, dest, jump string
	options          []string
}

func hostAddCmd(e *Env) *cobra.Command {
	var o hostAdd
	c := &cobra.Command{
		Use: "add NAME [USER@]ADDRESS", Short: "Add a host: pin its host key, authorize the deployer, write it to bellhop.yaml", Args: cobra.ExactArgs(2),
		Long: `Connect to a machine with your own ssh, pin its host key, add the deployer's public key to
authorized_keys there, and write the host to bellhop.yaml. Problems that would stop bellhop from
working there (systemd, sudo, clock, noexec) are listed with a solution. For a host that the config
has already, the deployer is authorized again if the machine shows the pinned key.`,
		Example: "  bellhop host add chrysalis root@192.168.0.12\n  bellhop host add kos-mos cadey@kos-mos.lan --jump lufta",
		RunE: func(c *cobra.Command, args []string) error {
			o.name, o.dest = args[0], args[1]
			return runHostAdd(e, c.Context(), &o)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.jump, "jump", "", "the host that bellhop connects through")
	c.Flags().StringArrayVar(&o.options, "ssh-option", nil, "an argument for your ssh; repeatable")
	return c
}

func runHostAdd(e *Env, ctx context.Context, o *hostAdd) error {
	if err := fleet.CheckName("host", o.name); err != nil {
		return err
	}

	dir, err := configDir(o.dir)
	if err != nil {
		return err
	}

	known, err := knowFleet(dir)
	if err != nil {
		return err
	}
	if known.Deployer == "" {
		known.Deployer = deployerLine(o.stateDir)
	}
	if known.Deployer == "" {
		return hint(errors.New("bellhop.yaml does not say who deploys"), "paste the line that bellhop serve printed: deployer: ssh-ed25519 AAAA…")
	}

	old, again := known.Hosts[o.name]
	t, facts, err := meet(e, ctx, o, known)
	if other := (*link.HostKeyError)(nil); again && errors.As(err, &other) && other.Host == o.name {
		return otherKey(o.name, old.files()[0], other)
	}
	if err != nil {
		return err
	}

	printFacts(e, o.name, facts)
	if again {
		return metAgain(e, o.name, old, t)
	}
	if len(t.HostKeys) == 0 {
		return fmt.Errorf("add %s: it showed no host key that can be pinned", o.name)
	}
	if other := known.at(t.Addresses[0]); other != "" {
		return hint(fmt.Errorf("add %s: %s has that machine already, as %s", o.name, known.Hosts[other].files()[0], other), "one machine has one name; bellhop host remove %s takes the other away", other)
	}

	edited, err := yamledit.AddHost(known.text, o.name, hostFields(t, o.jump))
	if err != nil {
		return err
	}
	if err := replaceFile(known.path, []byte(edited)); err != nil {
		return err
	}

	fmt.Fprintf(e.Stdout, "%s %s in %s\n", e.outPaint().green("wrote"), o.name, known.path)
	return problemsLeft(o.name, facts)
}

// meet looks at the machine, and lets the deployer in.
func meet(e *Env, ctx context.Context, o *hostAdd, known *knownFleet) (link.Target, newhost.Facts, error) {
	signers, err := e.signers(&o.reach)
	if err != nil && o.sshKey != "" {
		return link.Target{}, newhost.Facts{}, err
	}
	if err != nil {
		signers = func() ([]ssh.Signer, error) { return nil, nil } // the host key shows before any login
	}

	pool := link.NewPool(link.Config{Signers: signers})
	defer pool.Close()
	n := newhost.Newcomer{Name: o.name, Destination: sshDestination(o.dest), Options: o.options, DeployerKey: known.Deployer, Stderr: e.Stderr,
		HostKeys: known.Hosts[o.name].pins()}
	if o.sshKey != "" {
		n.Options = append([]string{"-i", o.sshKey}, n.Options...)
	}

	if o.jump != "" {
		via, err := o.target(o.jump)
		if err != nil {
			return link.Target{}, newhost.Facts{}, err
		}
		n.Jump = &via
	}

	t, facts, err := newhost.Add(ctx, pool, n)
	if err != nil {
		pinned := ""
		if len(n.HostKeys) > 0 {
			pinned = fmt.Sprintf(", and show the host key that %s pins", known.Hosts[o.name].files()[0])
		}
		return t, facts, hint(fmt.Errorf("add %s: %w", o.name, err), "ssh %s must work first%s", o.dest, pinned)
	}

	return t, facts, nil
}

// sshDestination writes name:port and [v6]:port the way that ssh takes a port.
func sshDestination(dest string) string {
	at := strings.LastIndex(dest, "@") + 1
	host, port, err := net.SplitHostPort(dest[at:])
	if err != nil || host == "" || strings.Contains(dest, "://") {
		return dest
	}
	return "ssh://" + dest[:at] + net.JoinHostPort(host, port)
}

// deployerLine is the public key of a deployer whose state directory is on this machine.
func deployerLine(stateDir string) string {
	key, err := newState(stateDir).signer()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " bellhop"
}

// metAgain ends the visit to a host that the config has: it shows what is pinned, or nothing is.
func metAgain(e *Env, name string, old knownHost, t link.Target) error {
	file := old.files()[0]
	if len(old.pins()) == 0 {
		return hint(fmt.Errorf("%s pins no host key of %s", file, name), "write into it what the host shows: host_key: %s", strings.Join(t.HostKeys, " or "))
	}
	fmt.Fprintf(e.Stdout, "%s is in %s already, with the key that it shows: the deployer is authorized\n", name, file)
	return nil
}

// otherKey tells of a host that does not show what file pins. Nothing was asked of it.
func otherKey(name, file string, key *link.HostKeyError) error {
	err := fmt.Errorf("%s shows another host key than %s pins, so the deployer is not authorized", name, file)
	if key.Line == "" {
		return hint(err, "if the machine was reinstalled, replace its host_key: by one that ssh-keyscan shows")
	}
	return hint(err, "if the machine was reinstalled, replace its host_key: by %s", key.Line)
}

// hostFields is a host as bellhop.yaml has it, in the order of the docs.
func hostFields(t link.Target, jump string) []string {
	address := t.Addresses[0]
	if host, port, err := net.SplitHostPort(address); err == nil && port == "22" {
		address = host
	}

	fields := []string{"address", address, "host_key", t.HostKeys[0]}
	if t.Arch != "" {
		fields = append(fields, "arch", t.Arch)
	}
	if t.User != "" && t.User != "root" {
		fields = append(fields, "user", t.User)
	}
	if jump != "" {
		fields = append(fields, "jump", jump)
	}

	return fields
}

func printFacts(e *Env, name string, f newhost.Facts) {
	p := e.outPaint()
	fmt.Fprintf(e.Stdout, "%s: %s, systemd %d", p.bold(name), orUnknown(f.Arch), f.Systemd)
	if f.NixOS {
		fmt.Fprint(e.Stdout, ", NixOS")
	}
	if f.Skew > time.Second || f.Skew < -time.Second {
		fmt.Fprintf(e.Stdout, ", clock off by %s", f.Skew.Round(time.Second))
	}

	switch {
	case f.KeyAdded:
		fmt.Fprint(e.Stdout, ", deployer's key added")
	case f.KeyThere:
		fmt.Fprint(e.Stdout, ", deployer's key is there")
	}

	fmt.Fprintln(e.Stdout)
	for _, line := range f.HostKeys {
		if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			fmt.Fprintf(e.Stdout, "  host key %s %s\n", k.Type(), ssh.FingerprintSHA256(k))
			break
		}
	}

	for _, n := range sentences(f.Notes) {
		fmt.Fprintf(e.Stdout, "  %s %s\n", p.yellow("note:"), n)
	}

	for _, n := range sentences(f.Problems) {
		fmt.Fprintf(e.Stdout, "  %s %s\n", p.red("problem:"), n)
	}
}

// textOf is the text of err with what a host said in it. No key's value is known to a command
// that only looks at a host, so the text is for the person at this terminal alone.
func textOf(err error) string {
	return plain.Reveal(err, func(s string) string { return s })
}

// sentences are what a look at a host found.
func sentences(of []*plain.Quote) []string {
	all := make([]string, 0, len(of))
	for _, q := range of {
		all = append(all, textOf(q))
	}
	return all
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown architecture"
	}
	return s
}

func problemsLeft(name string, f newhost.Facts) error {
	if len(f.Problems) == 0 {
		return nil
	}
	return hint(fmt.Errorf("%s: %s to solve before bellhop can work there", name, count(len(f.Problems), "problem")), "bellhop host check %s", name)
}

func hostCheckCmd(e *Env) *cobra.Command {
	var r reach
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use: "check [HOST...]", Short: "Check whether bellhop can work on hosts; nothing is changed",
		RunE: func(c *cobra.Command, args []string) error {
			expr, err := chosen(c, on, args)
			if err != nil {
				return err
			}
			ts, err := r.targets(expr)
			if err != nil {
				return err
			}
			return hostCheck(e, c.Context(), &r, ts, asJSON)
		},
	}
	r.flags(c)
	onFlag(c, &on)
	jsonFlag(c, &asJSON)
	c.ValidArgsFunction = completeHosts
	return c
}

// A checkedHost is one host of host check --json.
type checkedHost struct {
	Name     string   `json:"name"`
	Arch     string   `json:"arch"`
	Systemd  int      `json:"systemd"`
	NixOS    bool     `json:"nixos"`
	SkewMs   int64    `json:"skew_ms"`
	Problems []string `json:"problems"`
	Notes    []string `json:"notes"`
	Error    *string  `json:"error"`

	facts newhost.Facts
	err   error
}

func hostCheck(e *Env, ctx context.Context, r *reach, ts []link.Target, asJSON bool) error {
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	hosts := link.Each(ctx, ts, 10, func(ctx context.Context, t link.Target) checkedHost {
		ctx, cancel := context.WithTimeout(ctx, helloLimit)
		defer cancel()
		f, err := newhost.Check(ctx, pool, t)
		h := checkedHost{Name: t.Name, Arch: f.Arch, Systemd: f.Systemd, NixOS: f.NixOS, SkewMs: f.Skew.Milliseconds(),
			Problems: sentences(f.Problems), Notes: sentences(f.Notes), facts: f}
		if err != nil {
			h.Error, h.err = some(textOf(err)), err
		}

		return h
	})
	bad := 0
	for _, h := range hosts {
		if h.Error != nil || len(h.Problems) > 0 {
			bad++
		}
	}

	if asJSON {
		err = e.writeJSON(map[string]any{"v": 1, "hosts": hosts})
	} else {
		printChecked(e, hosts, bad)
	}

	if err == nil && bad > 0 {
		return exit(exitError)
	}

	return err
}

func printChecked(e *Env, hosts []checkedHost, bad int) {
	p := e.outPaint()
	for _, h := range hosts {
		if h.Error != nil {
			fmt.Fprintf(e.Stdout, "%s: %s\n", p.bold(h.Name), p.red(*h.Error))
			if said := hintFor(h.err); said != "" {
				fmt.Fprintf(e.Stdout, "  %s %s\n", p.cyan("hint:"), said)
			}
			continue
		}
		printFacts(e, h.Name, h.facts)
	}
	if bad == 0 {
		fmt.Fprintf(e.Stdout, "%s bellhop can work on %s\n", p.green("ok"), count(len(hosts), "host"))
	}
}

// helloLimit is how long a host may take to say who it is, a helper's upload included.
const helloLimit = 60 * time.Second

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
