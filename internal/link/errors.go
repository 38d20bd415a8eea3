package link

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// What went wrong, for callers that branch: errors.Is(err, link.ErrUnreachable).
var (
	// ErrUnreachable: no connection could be made, or it broke before the command began.
	// Nothing has happened on the host.
	ErrUnreachable = errors.New("unreachable")
	// ErrAuth: the host refused every key. Early in a boot that can pass (pam_nologin).
	ErrAuth = errors.New("login refused")
	// ErrKeysRefused: the host itself, proven by a pinned key, said that it takes none of our keys. It comes
	// beside ErrAuth, which may also be our fault, or a connection that broke.
	ErrKeysRefused = errors.New("the host takes none of the keys")
	// ErrSudo: the user may not become root by sudo -n.
	ErrSudo = errors.New("sudo -n refused")
	// ErrHelper: the helper can't be put on the host, or does not run there.
	ErrHelper = errors.New("helper")
	// ErrNotBegun: the host itself said that the helper was not there. It comes beside the kind.
	ErrNotBegun = errors.New("the helper did not begin")
	// ErrThere: the login works, and what failed came after. It comes beside ErrUnreachable, where a
	// connection that is open does not show when the host is better.
	ErrThere = errors.New("the host is there")
	// ErrLost: the connection broke while a command ran. What came of it is unknown.
	ErrLost = errors.New("connection lost")
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("pool is closed")
)

// An Error is a failure to reach a host or to run something there. Kind is one of the
// sentinels above. Its text does not name the host: who shows it says whose it is.
type Error struct {
	Host string // the target's name
	Kind error
	Err  error // what was being done, and why it failed; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Kind.Error()
	}

	return fmt.Sprintf("%v: %v", e.Kind, e.Err)
}

// Unwrap lets errors.Is and errors.As see both the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// A HostKeyError is a host that did not prove to be the one that is pinned. It is a hard
// stop: another address is not tried, and no retry helps.
type HostKeyError struct {
	Host    string   // the target's name
	Address string   // where it was met
	Pinned  []string // fingerprints, "ssh-ed25519 SHA256:…"
	Got     string   // what the host showed; "" when it has no key of the pinned types
	Line    string   // the same as a line for bellhop.yaml; "" likewise
}

func (e *HostKeyError) Error() string {
	if len(e.Pinned) == 0 {
		return "no host key is pinned"
	}

	if e.Got == "" {
		return fmt.Sprintf("host key changed: %s has no key of the pinned type (pinned %s)",
			e.Address, strings.Join(e.Pinned, ", "))
	}

	return fmt.Sprintf("host key changed: %s shows %s, pinned is %s", e.Address, e.Got, strings.Join(e.Pinned, ", "))
}

// HardStop says that err will not pass by trying again.
func HardStop(err error) bool {
	var hk *HostKeyError
	return errors.As(err, &hk) || errors.Is(err, ErrClosed)
}

func fingerprint(k ssh.PublicKey) string { return k.Type() + " " + ssh.FingerprintSHA256(k) }

// keysRefused is an error that is ErrKeysRefused too, and says nothing more.
type keysRefused struct{ error }

func (e keysRefused) Unwrap() []error { return []error{e.error, ErrKeysRefused} }
