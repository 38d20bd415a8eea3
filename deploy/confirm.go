package deploy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// What the confirmation of a host needs to know of the fleet. How it goes on is in package push.

// ownConfirm is for how long, at least, the deployer's own host waits to be confirmed: the deployer may
// be what the run restarts there.
const ownConfirm = 2 * time.Minute

// confirmWindow is for how long a host waits, in a fleet whose hosts wait so long.
func confirmWindow(confirm time.Duration, own bool) time.Duration {
	if own && confirm > 0 {
		return max(confirm, ownConfirm)
	}
	return confirm
}

// mostWitnesses is how many other hosts are asked whether they can be reached: one answer is enough.
const mostWitnesses = 4

// elsewhere returns what names something else than the host that can be reached at the moment of the
// call, "" when nothing can. So a host that its bundle cut off is told from a deployer whose own
// network is away.
func (d *Deployer) elsewhere(host string, t link.Target) func(context.Context) string {
	return func(ctx context.Context) string {
		if d.Elsewhere != nil {
			return d.Elsewhere(ctx, host)
		}
		return firstAnswer(ctx, d.witnesses(host, t))
	}
}

// A witness is something that can be asked whether it can be reached.
type witness struct {
	name string
	ask  func(context.Context) error
}

// witnesses are those for a host, the best first. What is on this machine needs no network to be reached. For
// a host behind a jump host only that one tells whether the way there works.
func (d *Deployer) witnesses(host string, t link.Target) []witness {
	if t.Jump != nil {
		return []witness{d.witnessOf(*t.Jump)}
	}
	if onThisMachine(t) {
		return []witness{{name: "this machine itself", ask: func(context.Context) error { return nil }}}
	}

	var all []witness
	if d.Far && d.Head != nil {
		all = append(all, witness{name: "the git remote", ask: func(ctx context.Context) error {
			_, err := d.Head(ctx)
			return err
		}})
	}
	hosts := d.History.Hosts()
	names := d.otherHosts(hosts, host)
	for _, name := range names[:min(len(names), mostWitnesses)] {
		all = append(all, d.witnessOf(rememberedTarget(name, hosts, 0)))
	}
	return all
}

// witnessOf has a host asked by a login. One that refuses it was reached too.
func (d *Deployer) witnessOf(t link.Target) witness {
	return witness{name: "host " + t.Name, ask: func(ctx context.Context) error {
		err := d.Links.Fresh(ctx, t)
		if errors.Is(err, link.ErrAuth) {
			return nil
		}
		return err
	}}
}

// otherHosts names the hosts that can be asked, those first that are likely to answer. A host that a run
// is at work on may be cut off by the same commit.
func (d *Deployer) otherHosts(hosts map[string]history.Host, host string) (names []string) {
	doubt := func(name string) int {
		n := 0
		if !hosts[name].AwayAt.IsZero() || d.hosts.away(name) {
			n += 2
		}
		if d.hosts.pushing(name) {
			n++
		}
		return n
	}

	for name, h := range hosts {
		isOther := name != host && h.State != history.Released && len(h.Reach.HostKeys) > 0
		if isOther && !onThisMachine(rememberedTarget(name, hosts, 0)) {
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

// settling is the confirmation of a run that an earlier process began on a host. How long the host waits
// is not known any more; what it says ends it.
func (d *Deployer) settling(o history.Interrupted, t link.Target) *push.Confirmation {
	return d.pusher().NewConfirmation(t, o.As, ownConfirm, d.elsewhere(o.Host, t))
}
