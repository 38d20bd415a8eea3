package host_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// A unit of the new system reads a key as a user whom only that system makes. It waits until it can, and the switch
// waits for it: so the key must become its owner's while the switch is under way. The user leaves with the system.
func TestRigNixOSKeyOfANewUser(t *testing.T) {
	r, one := newRigNixOS(t)
	const reads = `[Unit]
Wants=token-key.service
After=token-key.service
[Service]
User=bot
SupplementaryGroups=keys
Type=exec
ExecStart=/bin/sh -c "cat /run/keys/token >/dev/null || exit 9; exec sleep 1001"
`
	const waits = `[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=120
ExecStart=/bin/sh -c "until test x$(stat -c %%U /run/keys/token) = xbot; do sleep 0.1; done"
`
	units := map[string]string{"comes.service": reads, "token-key.service": waits}
	two := r.build("users", units, "echo bot >$out/users")
	l := systemLoad(two, "").keyOf("bot", "token", "sesame")
	got := r.deploy(l, bundle.OutcomeDone)
	if s := r.sh("stat -c '%U:%G %a' /run/keys/token; systemctl is-active comes"); s != "bot:bot 440\nactive" {
		t.Errorf("after the switch: %s\n%+v", s, got.res)
	}
	r.deploy(l, bundle.OutcomeNothing)

	// The user leaves, a unit fails, and the way back makes him anew: the key is his again.
	bad := r.build("bad", map[string]string{"web.service": "[Service]\nType=exec\nExecStart=/bin/sh -c \"exit 7\"\n"}, "")
	r.deploy(systemLoad(bad, ""), bundle.OutcomeRolledBack)
	if s := r.sh("stat -c '%U:%G %a' /run/keys/token; cat /run/keys/token; systemctl is-active comes"); s != "bot:bot 440\nsesameactive" {
		t.Errorf("after the rollback: %s", s)
	}

	r.deploy(systemLoad(one, ""), bundle.OutcomeDone)
	if s, _ := r.try("ls -A /run/keys; id bot"); !strings.Contains(s, "no such user") || strings.Contains(s, "token") {
		t.Errorf("back at the first system: %s", s)
	}
}
