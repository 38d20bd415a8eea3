package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/lab/canary"
)

// A mynah is a host that holds the keys already, and whose SSH server, login shell or helper says
// them before, or in place of, what belongs there.
type mynah struct {
	l      net.Listener
	signer ssh.Signer

	mu    sync.Mutex
	mode  string
	value string
	said  int
}

// mynahModes are the places in which it says them.
var mynahModes = []string{"banner", "reject", "stdout", "stderr", "helper", "fail", "hello", "deployer", "keys", "split events", "split lines", "split result", "reply"}

func newMynah(t *testing.T) *mynah {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &mynah{}
	if m.signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	if m.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.l.Close() })
	go func() {
		for {
			c, err := m.l.Accept()
			if err != nil {
				return
			}
			go m.connection(c)
		}
	}()
	return m
}

func (m *mynah) hostKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.signer.PublicKey())))
}

func (m *mynah) set(mode, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mode, m.value = mode, value
}

// says counts, so that a test can tell that it spoke.
func (m *mynah) says() (mode, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said++
	return m.mode, m.value
}

func (m *mynah) connection(c net.Conn) {
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(m.signer)
	mode, value := m.says()
	if mode == "banner" {
		config.BannerCallback = func(ssh.ConnMetadata) string { return value + "\n" }
	}

	_, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		mode, value := m.says()
		if mode == "reject" {
			nc.Reject(ssh.ConnectionFailed, "no: "+value)
			continue
		}
		ch, rs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range rs {
				r.Reply(r.Type == "exec", nil)
				if r.Type == "exec" {
					go m.command(ch, mode, value)
				}
			}
		}()
	}
}

func (m *mynah) command(ch ssh.Channel, mode, value string) {
	code := byte(1)
	defer func() {
		ch.SendRequest("exit-status", false, []byte{0, 0, 0, code})
		ch.Close()
	}()

	switch mode {
	case "stdout", "banner":
		io.WriteString(ch, "welcome "+value+"\n"+hex.EncodeToString([]byte(value)))
	case "stderr":
		io.WriteString(ch.Stderr(), "sh: "+value+": not found\n"+base64.StdEncoding.EncodeToString([]byte("x"+value)))
	case "helper":
		io.WriteString(ch.Stderr(), "bellhop-host: open /run/keys/"+value+"\n")
	case "fail":
		io.WriteString(ch, "\x00bellhop-fail write "+value+"\n")
	default:
		m.helper(ch, mode, value)
	}
}

// helper is a helper that says the value within the protocol.
func (m *mynah) helper(ch ssh.Channel, mode, value string) {
	half := len(value) / 2
	third := len(value) / 3
	hello := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: "b", Systemd: 252}
	record := bundle.Record{Network: "canaries", Host: "mynah", Deployer: "SHA256:x", Generation: 1, Digest: "d", BootID: "b"}

	switch mode {
	case "hello":
		hello.BootID, hello.Arch, hello.Digest, hello.Machine = value, value, value, value
		hello.Last = &bundle.Result{Run: value, Error: value, Warnings: []string{value}}
	case "deployer":
		record.Deployer, record.Digest, record.BootID = value, value, value
		hello.Record = &record
	case "keys":
		hello.Keys = []bundle.KeyState{{Name: value, Source: value, Unit: value, Present: true}, {Name: value[:half]}, {Name: value[half:]}}
	}
	io.WriteString(ch, bundle.Magic)
	wire.WriteFrame(ch, bundle.FrameHello, hello)

	var o bundle.Offer
	r := wire.NewReader(ch)
	if r.Expect(bundle.FrameOffer, &o) != nil {
		return
	}
	if mode == "reply" {
		wire.WriteFrame(ch, bundle.FrameReply, bundle.Reply{Error: "no: " + value})
		return
	}
	wire.WriteFrame(ch, bundle.FrameWant, bundle.Want{})
	for kind := byte(0); kind != bundle.FrameEnd; {
		var err error
		if kind, _, err = r.Next(); err != nil {
			return
		}
	}

	res := bundle.Result{Run: o.Run, Outcome: bundle.OutcomeFailed, Error: "it failed"}
	event := func(texts ...string) {
		for _, text := range texts {
			wire.WriteFrame(ch, bundle.FrameEvent, bundle.Event{Step: "start", Text: text})
		}
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(value))
	switch mode {
	case "split events":
		event("it says "+value[:half], value[half:], "and "+value[:third], value[third:2*third], value[2*third:])
		event(encoded[:20], encoded[20:40], encoded[40:])
	case "split lines":
		res.Error = "wrapped:\n" + value[:half] + "\n" + value[half:] + "\n\n  " + encoded[:30] + "\n  " + encoded[30:]
		event(value[:half] + "\n" + value[half:])
	case "split result":
		res.Warnings = []string{value[:half], value[half:], "x", value[:third], value[third : 2*third], value[2*third:]}
		res.Changed = []string{hex.EncodeToString([]byte(value))[:50], hex.EncodeToString([]byte(value))[50:]}
	}
	wire.WriteFrame(ch, bundle.FrameResult, &res)
}

// beforeTheGreeting has the mynah say a key's value in every place that comes before, or beside,
// the words of a helper.
func (c *canaryWorld) beforeTheGreeting() {
	for _, mode := range mynahModes {
		c.mynah.set(mode, c.third.Value)
		before := c.mynah.said
		said := len(c.out.Bytes())
		c.want(c.push("the mynah: "+mode, map[string]string{"secrets/one.age": c.seal(c.reader, c.third.Value), "secrets/two.age": c.seal(c.reader, c.third.Value)}), 3, mode)
		c.run("key", "status")

		sweep := canary.NewSweep(c.third)
		sweep.Look("an output", c.out.Bytes()[said:])
		for _, f := range sweep.Found() {
			c.t.Errorf("%s: %s", mode, f)
		}
		if c.mynah.said == before {
			c.t.Errorf("%s: the mynah did not speak", mode)
		}
		if !strings.Contains(string(c.out.Bytes()[said:]), "mynah") {
			c.t.Errorf("%s: nothing is said of the mynah", mode)
		}
	}
	c.mynah.set("stdout", "nothing")
}
