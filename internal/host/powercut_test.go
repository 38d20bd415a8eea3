package host_test

import (
	"context"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// homeGiver notes the snippets by which homes were given to their users.
type homeGiver struct {
	*box
	snippets []string
}

func (g *homeGiver) Tmpfiles(_ context.Context, paths []string) error {
	for _, p := range paths {
		g.snippets = append(g.snippets, g.read(p))
	}
	return nil
}

// cutPower reboots as a plug that is pulled does: lines of the journal that were not synced are gone.
func (b *box) cutPower() {
	b.t.Helper()
	first, rest, _ := strings.Cut(b.read("/var/lib/bellhop/journal"), "\n")
	var kept []string
	for line := range strings.Lines(rest) {
		if !strings.Contains(line, `"step"`) {
			kept = append(kept, line)
		}
	}
	b.write("/var/lib/bellhop/journal", first+"\n"+strings.Join(kept, ""))
	b.reboot()
}

// The lines of steps are not synced, so after a power cut nobody knows how far the run came: homes are
// given back, and what somebody edited meanwhile is kept, as if it had come that far.
func TestPowerCutTakesTheStepsAlong(t *testing.T) {
	const snippet = "/etc/tmpfiles.d/bellhop-bot.conf"
	b := newBox(t)
	with := func(text, owner string) *load {
		return bot(text).file(snippet, "d /srv/bot 0750 "+owner+" "+owner+" -\n")
	}
	b.deploy(with("one", "bot"), bundle.OutcomeDone)

	g := &homeGiver{box: b}
	b.m.Accounts = g
	run := b.stageOnly(with("two", "bot2"))
	if at, died := b.dieWhen("start", func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatalf("it did not die, but came to %s", at)
	}
	b.write("/etc/bot/conf", "by hand")
	g.snippets = nil
	b.cutPower()
	if err := host.Settle(context.Background(), b.m); err != nil {
		t.Fatal(err)
	}

	wantList(t, "snippets by which homes were given", g.snippets, "d /srv/bot 0750 bot bot -\n")
	res := b.result(run)
	wantList(t, "restored", res.Restored, "/etc/bot/conf")
	if len(res.Edits) != 1 || res.Edits[0] == "" || b.read(res.Edits[0]) != "by hand" {
		t.Errorf("edits %q, want one with what was written by hand", res.Edits)
	}
}

// Boot may have tried units that a run brought, and failed, before the run is undone: without their files
// they would be told as failed until somebody clears that by hand.
func TestUnitsOfAnUndoneRunAreNotLeftFailed(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	comes := bot("one").service("comes.service", "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
	run := b.stageOnly(comes)
	if at, died := b.dieWhen("health", func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatalf("it did not die, but came to %s", at)
	}

	b.cutPower()
	r := &resets{box: b}
	b.m.Systemd = r
	if err := host.Settle(context.Background(), b.m); err != nil {
		t.Fatal(err)
	}
	wantList(t, "cleared", r.names, "comes.service")
}
