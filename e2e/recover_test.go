//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// public is the age recipient of an identity file.
func (w *world) public(identity string) string {
	w.t.Helper()
	return strings.TrimSpace(w.sh("", "age-keygen -y "+identity))
}

// Deployer stolen, as docs/recover.md has it: a new deployer takes over, the old one's key
// opens neither a secret nor a host.
func TestDeployerStolen(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.push("before the theft")
	stolen := filepath.Join(t.TempDir(), "stolen")
	oldReader := w.public(w.state + "/identity.age")
	oldKey := strings.Fields(w.sh("", "ssh-keygen -y -f "+w.state+"/ssh_ed25519"))[1]
	w.stop()
	w.sh("", "mv "+w.state+" "+stolen)

	w.start() // a new identity, SSH key and webhook secret
	newKey := strings.Fields(w.sh("", "ssh-keygen -y -f "+w.state+"/ssh_ed25519"))[1]
	w.edit("bellhop.yaml", oldReader, w.public(w.state+"/identity.age"))
	y := w.read("bellhop.yaml")
	w.write(map[string]string{"bellhop.yaml": strings.Replace(y, oldKey, newKey, 1)})
	for name, h := range hosts {
		w.bellhop("host", "add", name, "root@"+addr(h))
		on(t, h, "sed -i '\\|"+oldKey+"|d' /root/.ssh/authorized_keys")
	}
	w.bellhop("secret", "rekey")
	w.secret("reader", "rotated")
	w.secret("withinbot.env", "TOKEN=rotated\n")
	c := w.commit("new deployer")
	if out, code := w.try("deploy", "--all", "--take-over"); code != 0 {
		t.Fatalf("deploy --all --take-over: exit %d\n%s", code, out)
	}
	w.waitCurrent(c)
	if got := on(t, "host2", "cat /srv/reader/seen"); got != "rotated" {
		t.Errorf("the reader saw %q", got)
	}
	if out, err := sh(w.work, "age -d -i "+stolen+"/identity.age secrets/reader.age"); err == nil {
		t.Errorf("the stolen identity opens a secret: %q", out)
	}
	for _, h := range hosts {
		if _, err := sh("", "ssh -i "+stolen+"/ssh_ed25519 -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@"+addr(h)+" true"); err == nil {
			t.Errorf("the stolen key opens %s", h)
		}
	}
}

// Laptop lost: the reader leaves, files are sealed anew, hosts do not move.
func TestLaptopLost(t *testing.T) {
	w := newWorld(t)
	lost := filepath.Join(t.TempDir(), "lost.age")
	w.sh("", "age-keygen -o "+lost+" 2>/dev/null")
	laptop := "\n  laptop: " + w.public(lost)
	w.edit("bellhop.yaml", "\n  deployer: age1", laptop+"\n  deployer: age1")
	w.writeKeys()
	w.push("with a laptop")
	if got := w.sh(w.work, "age -d -i "+lost+" secrets/reader.age"); got != "first value" {
		t.Fatalf("the laptop reads %q", got)
	}
	before := sessions(t, "host1")
	w.edit("bellhop.yaml", laptop, "")
	if _, code := w.try("secret", "rekey", "--check"); code != 1 {
		t.Errorf("rekey --check with stale files: exit %d, want 1", code)
	}
	w.bellhop("secret", "rekey")
	if out, code := w.try("secret", "rekey", "--check"); code != 0 {
		t.Errorf("rekey --check after rekey: exit %d\n%s", code, out)
	}
	w.push("one laptop less")
	if out, err := sh(w.work, "age -d -i "+lost+" secrets/reader.age"); err == nil {
		t.Errorf("the lost laptop still opens a secret: %q", out)
	}
	if got := sessions(t, "host1") - before; got != 0 {
		t.Errorf("a rekey opened %d sessions", got)
	}
}
