// Package routes knows the ways to hosts: the route that the repo or history has, which host is this
// machine itself, and what beside a host can show that the network works.
//
// A target is the way to one host, with the host that it jumps over. A witness is something that answers
// when asked, so that a host which was cut off is told from a deployer that is away.
package routes

import (
	"slices"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// mostJumps is how long a chain of jump hosts may be.
const mostJumps = 8

// To is the route to h as its fleet has it. arch is as the host said, "" when that is not known; keys says
// that the helper needs a place for keys.
func To(f *fleet.Fleet, h *fleet.Host, arch string, keys bool) link.Target {
	return over(f, h, arch, keys, 0)
}

func over(f *fleet.Fleet, h *fleet.Host, arch string, keys bool, depth int) link.Target {
	if h.Arch != "" {
		arch = h.Arch
	}
	t := link.Target{Name: h.Name, Addresses: h.Addresses, HostKeys: h.HostKeys, User: h.User, Arch: arch, Keys: keys}
	if j, ok := f.Host(h.Jump); h.Jump != "" && ok && depth < mostJumps {
		jump := over(f, j, "", false, depth+1)
		t.Jump = &jump
	}
	return t
}

// Reach is the route to h as history keeps it, for when the host leaves the repo.
func Reach(h *fleet.Host) history.Reach {
	return history.Reach{Addresses: h.Addresses, HostKeys: h.HostKeys, User: h.User, Jump: h.Jump, Tags: h.Tags, Sometimes: h.Sometimes}
}

// Remembered is how a host was reached last: it works without the repo.
func Remembered(host string, hosts map[string]history.Host) link.Target {
	return rememberedOver(host, hosts, 0)
}

func rememberedOver(host string, hosts map[string]history.Host, depth int) link.Target {
	h := hosts[host]
	t := link.Target{Name: host, Addresses: h.Reach.Addresses, HostKeys: h.Reach.HostKeys, User: h.Reach.User, Arch: h.Arch, Keys: h.HasKeys()}
	if h.Reach.Jump != "" && depth < mostJumps {
		j := rememberedOver(h.Reach.Jump, hosts, depth+1)
		t.Jump = &j
	}
	return t
}

// Same says that two targets lead to the same machine by the same route. What the helper
// needs to know, as the architecture, is no part of it.
func Same(a, b link.Target) bool {
	isSame := slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.HostKeys, b.HostKeys)
	if !isSame || a.User != b.User || (a.Jump == nil) != (b.Jump == nil) {
		return false
	}
	return a.Jump == nil || Same(*a.Jump, *b.Jump)
}

// OtherName is the name of the host of f that the record names, where that is not the host
// itself; "" when it names none.
func OtherName(f *fleet.Fleet, h *push.Hello, host string) string {
	if h.Record == nil || f == nil || h.Record.Host.Is(host) {
		return ""
	}
	for _, other := range f.Hosts {
		if h.Record.Host.Is(other.Name) {
			return other.Name
		}
	}
	return ""
}
