package host_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// A rigHand is a real host, and a person at work on it.
type rigHand struct{ *rig }

func (h rigHand) look(ask bundle.Look) (s bundle.Seen) {
	h.t.Helper()
	verb := " serve ahead"
	if ask.Verify {
		verb = " serve"
	}
	cmd := exec.Command(h.ssh[0], append(h.ssh[1:], rigHelper+verb)...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()

	var hello bundle.Hello
	r := wire.NewReader(out)
	err := wire.WriteFrame(in, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskLook, Look: &ask})
	if err == nil {
		_, err = r.SkipNoise()
	}
	if err == nil {
		err = r.Expect(bundle.FrameHello, &hello)
	}
	if err == nil {
		err = r.Expect(bundle.FrameSeen, &s)
	}
	if err != nil || !hello.Looks {
		h.t.Fatalf("look: %v, hello says that it looks: %v", err, hello.Looks)
	}
	return s
}

func (h rigHand) deployed(l *load) {
	h.t.Helper()
	o := l.offer()
	o.Run = fmt.Sprintf("rig-look-%d", rigLooks)
	rigLooks++
	hello, _ := h.ask(bundle.Ask{Verb: bundle.AskManifest})
	if hello.Record != nil {
		o.Base = hello.Record.Generation
	}
	got, err := h.session(o, l)
	if err != nil || got.res.Outcome != bundle.OutcomeDone && got.res.Outcome != bundle.OutcomeNothing {
		h.t.Fatalf("deploy: %+v, %v", got.res, err)
	}
}

var rigLooks int

func (h rigHand) hand(verb string, args ...string) {
	h.t.Helper()
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	all := strings.Join(quoted, " ")

	command := map[string]string{
		"remove": "rm -rf " + all, "mkdir": "mkdir " + all, "link": "ln -s " + all, "chmod": "chmod " + all, "chown": "chown " + all,
		"shell": "usermod -s \"$2\" \"$1\"", "join": "usermod -aG \"$2\" \"$1\"", "leave": "gpasswd -d \"$1\" \"$2\"",
		"uid": "usermod -u \"$2\" \"$1\"", "gid": "groupmod -g \"$2\" \"$1\"", "group": "usermod -g \"$2\" \"$1\"", "home": "usermod -d \"$2\" \"$1\"",
		"userdel":       "userdel \"$1\"",
		"daemon-reload": "systemctl daemon-reload", "fail": "systemctl kill -s KILL " + all + "; sleep 0.5",
	}[verb]
	switch {
	case slices.Contains([]string{"shell", "join", "leave", "uid", "gid", "group", "home", "userdel"}, verb):
		command = "set -- " + all + "; " + command
	case verb == "write":
		command = fmt.Sprintf("mkdir -p \"$(dirname %[1]s)\" && printf %%s %[2]s >%[1]s", quoted[0], quoted[1])
	case command == "":
		command = "systemctl " + verb + " " + all
	}
	if strings.Contains(all, bundle.KeyDir) { // which is read-only but for bellhop
		command = "mount -o remount,rw " + bundle.KeyDir + "; " + command
	}
	h.sh(command)
}

// What a person does by hand to a real host is told as the twin tells it.
func TestRigLooks(t *testing.T) {
	r := newRig(t)
	t.Cleanup(func() {
		r.try("rm -f /run/reboot-required /run/reboot-required.pkgs " + foreignUnit + " && systemctl daemon-reload")
	})
	checkLooks(t, rigHand{r})
}
