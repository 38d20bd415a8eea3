package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// AgentSigners logs in with the keys of the agent at $SSH_AUTH_SOCK, or only those that are
// named: sshd gives up after six, so an agent with many keys needs a name. The agent signs;
// it is never forwarded to a host.
func AgentSigners(only ...ssh.PublicKey) func() ([]ssh.Signer, error) {
	var mu sync.Mutex
	var line net.Conn
	return func() ([]ssh.Signer, error) {
		mu.Lock()
		defer mu.Unlock()
		for range 2 {
			if line == nil {
				c, err := dialAgent()
				if err != nil {
					return nil, err
				}
				line = c
			}
			all, err := agent.NewClient(line).Signers()
			if err == nil {
				return pick(all, only)
			}
			line.Close() // it was restarted, perhaps
			line = nil
		}
		return nil, errors.New("ssh agent: it does not answer")
	}
}

func dialAgent() (net.Conn, error) {
	sock := os.Getenv("SSH_AUTH_SOCK")
	if sock == "" {
		return nil, errors.New("ssh agent: SSH_AUTH_SOCK is not set")
	}

	c, err := net.Dial("unix", sock)
	if err != nil {
		return nil, fmt.Errorf("ssh agent: %w", err)
	}

	return c, nil
}

func pick(all []ssh.Signer, only []ssh.PublicKey) ([]ssh.Signer, error) {
	if len(only) == 0 {
		return all, nil
	}

	var some []ssh.Signer
	for _, s := range all {
		for _, k := range only {
			if bytes.Equal(s.PublicKey().Marshal(), k.Marshal()) {
				some = append(some, s)
			}
		}
	}

	if some == nil {
		return nil, errors.New("ssh agent: it does not hold the key asked for")
	}

	return some, nil
}
