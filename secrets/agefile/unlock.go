package agefile

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// A lazy identity is unlocked at most once; a wrong passphrase is remembered too, so that a
// rekey of a hundred files does not ask a hundred times.
type lazy struct {
	source string
	load   func() (keys []age.Identity, public string, err error)

	once   sync.Once
	keys   []age.Identity
	err    error
	public atomic.Pointer[string] // read while another goroutine may be unlocking
}

// known is the public half, "" before it is unlocked.
func (l *lazy) known() string {
	if p := l.public.Load(); p != nil {
		return *p
	}
	return ""
}

func (l *lazy) unlock() error {
	l.once.Do(func() {
		keys, public, err := l.load()
		if err != nil {
			l.err = &lockedError{l.source, err.Error()}
			return
		}

		l.keys = keys
		l.public.Store(&public)
	})
	return l.err
}

func (l *lazy) Unwrap(ss []*age.Stanza) ([]byte, error) {
	if err := l.unlock(); err != nil {
		return nil, err
	}
	for _, k := range l.keys {
		key, err := k.Unwrap(ss)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}

	return nil, age.ErrIncorrectIdentity
}

// sshLazy is an encrypted SSH key: asked for only if a stanza is meant for it, and once.
type sshLazy struct {
	source string
	ask    func(string) ([]byte, error)
	pem    []byte

	mu   sync.Mutex
	key  *agessh.EncryptedSSHIdentity
	done bool
	pass []byte
	err  error
}

func (l *sshLazy) passphrase() ([]byte, error) {
	if !l.done {
		l.done = true
		l.pass, l.err = l.ask("Passphrase for " + l.source + ": ")
	}
	return l.pass, l.err
}

func (l *sshLazy) Unwrap(ss []*age.Stanza) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key, err := l.key.Unwrap(ss)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) && l.done {
		return nil, l.locked()
	}
	return key, err
}

func (l *sshLazy) unlock() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pass, err := l.passphrase()
	if err == nil {
		_, err = ssh.ParseRawPrivateKeyWithPassphrase(l.pem, pass)
	}
	if err != nil {
		return l.locked()
	}
	return nil
}

// locked says why the key could not be unlocked: nobody was there to ask, or the answer is wrong.
func (l *sshLazy) locked() error {
	if l.err != nil {
		return &lockedError{l.source, l.err.Error()}
	}
	return &lockedError{l.source, "the passphrase is wrong, or was not given"}
}

func (id *identity) known() string {
	if l, ok := id.key.(*lazy); ok {
		return l.known()
	}
	return id.public
}

// Unlock asks for every passphrase now. A server does so at its start: at the first push nobody
// would be there to answer.
func (ids *Identities) Unlock() error {
	var errs []error
	for _, id := range ids.list {
		if l, ok := id.key.(interface{ unlock() error }); ok {
			if err := l.unlock(); err != nil {
				errs = append(errs, fmt.Errorf("unlock identity %w", err))
			}
		}
	}

	return errors.Join(errs...)
}
