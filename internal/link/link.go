// Package link reaches a host over pinned SSH, keeps the line open, and puts the helper there.
//
// A target is how a host is reached: addresses, pinned host keys, a user, perhaps another
// target to jump through. A pool keeps one connection to each target between runs. A
// session is one command on such a connection; a helper session is the one that speaks
// bundle's frames. A watch keeps a connection to a host open, and reports each time it was opened again.
//
// Its promises: a host key that is not pinned ends the attempt before anything is said to
// the host; nothing blocks for longer than its deadline, since a peer that falls silent has
// its connection closed; and no part of a command line is ever made of anything but
// constants and a hex digest, so that nothing needs quoting and no secret can be in them.
package link

import (
	"context"
	"log/slog"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Deadlines and caps that hold where Config says nothing else.
const (
	DialTimeout      = 10 * time.Second // to connect to one address
	HandshakeTimeout = 10 * time.Second // from connected to logged in
	KeepaliveKeys    = 5 * time.Second  // silence before a host with keys or at work is asked, and time to answer
	KeepaliveOther   = 30 * time.Second // silence before any other host is asked
	KeepaliveAnswer  = 15 * time.Second // its time to answer
	MaxConnections   = 1000             // connections kept; the least recently used go first
	MaxDials         = 64               // handshakes at once
	MaxSessions      = 3                // channels on one connection; sshd's own limit is 10
)

// Config says how a Pool works. The zero value needs only a way to log in.
type Config struct {
	// Signers gives the keys to log in with, asked at each handshake. AgentSigners
	// makes one. It must be set.
	Signers func() ([]ssh.Signer, error)
	// Helper finds the helper for an OS and architecture; nil means FindHelper.
	Helper func(goos, goarch string) (path, digest string, err error)
	// Log gets a line for each redial and helper upload; nil: none.
	Log *slog.Logger
	// Keepalive is the silence after which a host without keys is asked whether it is there;
	// 0 means KeepaliveOther. Hosts with keys are asked after KeepaliveKeys, or Keepalive if
	// that is shorter.
	Keepalive time.Duration
	// DialTimeout and HandshakeTimeout are for one address; 0 means the constants above.
	DialTimeout, HandshakeTimeout time.Duration
	// MaxConnections and MaxDials cap what is open and what is being opened; 0 means the
	// constants above.
	MaxConnections, MaxDials int
	// Dial opens a network connection; nil means net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Target says how one host is reached.
type Target struct {
	Name      string   // the host's name; one connection is kept for each
	Addresses []string // "ip:port" or "name:port", tried in order; a missing port is 22
	HostKeys  []string // pinned, in authorized_keys form; none is an error
	User      string   // "" means root; for another user the helper runs under sudo -n
	Arch      string   // as Go names it, "" when not known yet
	Keys      bool     // the host has keys: its silence is noticed sooner
	Jump      *Target  // reached through this one
}

func (t Target) user() string {
	if t.User == "" {
		return "root"
	}

	return t.User
}

// sudo says that commands need sudo -n to be root's.
func (t Target) sudo() bool { return t.user() != "root" }

func (c Config) withDefaults() Config {
	if c.Helper == nil {
		c.Helper = FindHelper
	}

	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}

	if c.Dial == nil {
		// No TCP keepalive: ours asks sshd itself, which also notices a peer whose kernel still answers.
		c.Dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}

	c.Keepalive = orDuration(c.Keepalive, KeepaliveOther)
	c.DialTimeout = orDuration(c.DialTimeout, DialTimeout)
	c.HandshakeTimeout = orDuration(c.HandshakeTimeout, HandshakeTimeout)
	if c.MaxConnections <= 0 {
		c.MaxConnections = MaxConnections
	}

	if c.MaxDials <= 0 {
		c.MaxDials = MaxDials
	}

	return c
}

func orDuration(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}

	return d
}
