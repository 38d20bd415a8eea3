package main

import (
	"net"
	"path/filepath"
	"testing"

	"bellhop/server"
)

// Who types all that a delivery needs is not stopped by a server that does not answer him.
func TestWebhookTestAsksForWhatIsLacking(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, server.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	o := webhookTest{stateDir: dir, url: "http://x/", branch: "main", secretFile: "secret"}
	if err := o.ask(t.Context()); err != nil || o.url != "http://x/" || o.secretFile != "secret" {
		t.Errorf("ask with all typed: %v, %+v", err, o)
	}
	o.secretFile = ""
	if err := o.ask(t.Context()); err == nil {
		t.Errorf("ask of a server that does not answer is no error: %+v", o)
	}
}
