package admission

import (
	"net/http"
	"net/netip"
	"strings"
)

// Who sent a request is what limits are counted by. It is the address of the connection, or,
// behind a proxy that --trust-proxy names, the newest hop of X-Forwarded-For that is no such
// proxy itself: each proxy appends the address that it saw, so everything to the left of that
// hop is the sender's own claim and is not read.
//
// The header Forwarded is not read: a proxy that speaks X-Forwarded-For passes it through as the
// sender wrote it.

// A Sender is whom a request is counted against.
type Sender struct {
	Addr netip.Addr // IPv4, or the first address of an IPv6 /64, which is what one customer has

	// Shared says that many speak through this address: a proxy. Strangers and the forge may sit
	// behind it alike, so no limit by address holds for it.
	Shared bool
}

// mostHops is how many hops of X-Forwarded-For are looked at, from the right.
const mostHops = 32

// Proxies are the networks whose X-Forwarded-For is believed.
type Proxies []netip.Prefix

// trust says that a is one of the proxies.
func (p Proxies) trust(a netip.Addr) bool {
	for _, net := range p {
		if net.Contains(a) {
			return true
		}
	}
	return false
}

// Sender is whom a request is counted against.
func (p Proxies) Sender(r *http.Request) Sender {
	peer, ok := parseHop(r.RemoteAddr)
	if !ok || !p.trust(peer) {
		return p.Peer(r.RemoteAddr)
	}

	hops := hopsOf(r.Header.Values("X-Forwarded-For"))
	for i := len(hops) - 1; i >= 0; i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			break // a proxy of ours wrote no address: it is all that is known
		}
		if !p.trust(hop) {
			return Sender{Addr: Network(hop)}
		}
		peer = hop
	}
	return Sender{Addr: Network(peer), Shared: true}
}

// Peer is whom a connection is counted against, before anything was read from it. As long as no
// proxy is named, an address of this machine or of a private network may be one.
func (p Proxies) Peer(remote string) Sender {
	a, ok := parseHop(remote)
	if !ok {
		return Sender{}
	}
	shared := p.trust(a)
	if len(p) == 0 {
		shared = isLocal(a)
	}
	return Sender{Addr: Network(a), Shared: shared}
}

// carrierNAT is what providers and some overlay networks number their inner side with (RFC 6598).
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func isLocal(a netip.Addr) bool {
	onThisMachine := a.IsLoopback() || a.IsLinkLocalUnicast()
	return onThisMachine || a.IsPrivate() || carrierNAT.Contains(a)
}

// Network is the part of an address that is counted.
func Network(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}

// hopsOf are the newest hops of a header that may be there more than once: lines of the same
// name are one list, in their order.
func hopsOf(lines []string) []string {
	var hops []string
	for _, line := range lines {
		hops = append(hops, strings.Split(line, ",")...)
	}
	return hops[max(0, len(hops)-mostHops):]
}

// parseHop reads an address as proxies write it: 192.0.2.1, 192.0.2.1:80, 2001:db8::1,
// [2001:db8::1], [2001:db8::1]:80. An IPv4 address inside an IPv6 one is that IPv4 address, and
// a zone is left out.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plainAddr(ap.Addr()), true
	}

	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(inner)
		return plainAddr(a), err == nil && a.Is6()
	}
	a, err := netip.ParseAddr(s)
	return plainAddr(a), err == nil
}

func plainAddr(a netip.Addr) netip.Addr { return a.WithZone("").Unmap() }
