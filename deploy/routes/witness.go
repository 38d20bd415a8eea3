package routes

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"bellhop/deploy/hosts"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// mostWitnesses is how many other hosts are asked whether they can be reached: one answer is enough.
const mostWitnesses = 4

// A Witnesses knows what, beside a host, may be reached.
type Witnesses struct {
	Links   Links
	History *history.DB
	Hosts   *hosts.Table

	Head  func(context.Context) (string, error)         // asks the git remote; nil: it is no witness
	Given func(ctx context.Context, host string) string // decides in place of all others; nil: none was given
}

// Elsewhere returns what names something else than the host that can be reached at the moment of the
// call, "" when nothing can. So a host that its bundle cut off is told from a deployer whose own
// network is away.
func (w Witnesses) Elsewhere(host string, t link.Target) func(context.Context) string {
	return func(ctx context.Context) string {
		if w.Given != nil {
			return w.Given(ctx, host)
		}
		return firstAnswer(ctx, w.of(host, t))
	}
}

// A witness is something that can be asked whether it can be reached.
type witness struct {
	name string
	ask  func(context.Context) error
}

// of are the witnesses for a host, the best first. What is on this machine needs no network to be reached. For
// a host behind a jump host only that one tells whether the way there works.
func (w Witnesses) of(host string, t link.Target) []witness {
	if t.Jump != nil {
		return []witness{w.login(*t.Jump)}
	}
	if onThisMachine(t) {
		return []witness{{name: "this machine itself", ask: func(context.Context) error { return nil }}}
	}

	var all []witness
	if w.Head != nil {
		all = append(all, witness{name: "the git remote", ask: func(ctx context.Context) error {
			_, err := w.Head(ctx)
			return err
		}})
	}
	hosts := w.History.Hosts()
	names := w.otherHosts(hosts, host)
	for _, name := range names[:min(len(names), mostWitnesses)] {
		all = append(all, w.login(Remembered(name, hosts)))
	}
	return all
}

// login has a host asked by a login. One that refuses it was reached too.
func (w Witnesses) login(t link.Target) witness {
	return witness{name: "host " + t.Name, ask: func(ctx context.Context) error {
		err := w.Links.Fresh(ctx, t)
		if errors.Is(err, link.ErrAuth) {
			return nil
		}
		return err
	}}
}

// otherHosts names the hosts that can be asked, those first that are likely to answer. A host that a run
// is at work on may be cut off by the same commit.
func (w Witnesses) otherHosts(hosts map[string]history.Host, host string) (names []string) {
	doubt := func(name string) int {
		n := 0
		if !hosts[name].AwayAt.IsZero() || w.Hosts.Away(name) {
			n += 2
		}
		if w.Hosts.Pushing(name) {
			n++
		}
		return n
	}

	for name, h := range hosts {
		isOther := name != host && h.State != history.Released && len(h.Reach.HostKeys) > 0
		if isOther && !onThisMachine(Remembered(name, hosts)) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(doubt(a), doubt(b)), strings.Compare(a, b)) })
	return names
}

// onThisMachine says that every address of t is that of this machine's own sshd. Another port may lead to
// another machine.
func onThisMachine(t link.Target) bool {
	isOther := func(address string) bool {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, "22"
		}
		return port != "22" || !isLocal(host)
	}
	return t.Jump == nil && len(t.Addresses) > 0 && !slices.ContainsFunc(t.Addresses, isOther)
}

// firstAnswer asks all at once, and returns the name of the first that answers, "" when none does
// before ctx ends.
func firstAnswer(ctx context.Context, all []witness) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	answers := make(chan string, len(all))
	for _, w := range all {
		go func() {
			if w.ask(ctx) != nil {
				w.name = ""
			}
			answers <- w.name
		}()
	}
	for range all {
		select {
		case name := <-answers:
			if name != "" {
				return name
			}
		case <-ctx.Done():
			return ""
		}
	}
	return ""
}
