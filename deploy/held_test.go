package deploy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bellhop/internal/history"
)

// A host on which one service was left as it was, since its user bars the way to a path of his, has the other services
// of the push, gets its keys back after a reboot, and is held-back; where services are not isolated, it is failed.
func TestKeysOfAHostWithAServiceThatIsBarred(t *testing.T) {
	for _, c := range []struct {
		top     string
		outcome history.Outcome
		state   history.State
		says    string
	}{
		{"", history.OutcomePartial, history.HeldBack, "service bot stays at 000000000000: "},
		{"isolate: false\n", history.OutcomeFailed, history.Failed, "service bot is left as it is"},
	} {
		t.Run(c.top, func(t *testing.T) {
			w := newWorld(t, "a")
			w.top = c.top
			keyed(w, "a", 1, 5)
			w.service("bot", map[string]string{"files/srv/bot/conf/x": "one"})
			w.enable("a", "vault", "bot")
			m := w.machines["a"]
			w.must(os.MkdirAll(m.Path("/srv/bot"), 0o777))
			w.must(os.Chmod(m.Path("/srv/bot"), 0o777))
			w.push("first", history.OutcomeDone)

			w.must(os.Rename(m.Path("/srv/bot/conf"), m.Path("/srv/bot/aside")))
			w.must(os.Symlink("/etc", m.Path("/srv/bot/conf")))
			w.files["services/bot/files/srv/bot/conf/x"] = "two"
			w.files["secrets/key0.age"] = "rotated"
			w.push("second", c.outcome)
			if got := read(t, m.Path("/run/keys/key0")); got != "rotated" {
				t.Errorf("key0 = %q, want the other service brought", got)
			}
			h, _ := w.db.Host("a")
			if h.State != c.state || !strings.Contains(h.Error, c.says) || !strings.Contains(h.Error, "/srv/bot/conf is barred by") || !strings.Contains(h.Error, "bellhop deploy --retry") {
				t.Errorf("host is %s (%s), want %s, and why", h.State, h.Error, c.state)
			}

			w.must(m.Reboot())
			ks, err := w.d.Keys().Push(t.Context(), "")
			w.must(err)
			if len(ks) != 1 || ks[0].Error != nil || len(ks[0].Keys) != 1 || !ks[0].Keys[0].Present {
				t.Fatalf("PushKeys: %+v", ks)
			}
			if got := read(t, m.Path("/run/keys/key0")); got != "rotated" {
				t.Errorf("key0 came back as %q", got)
			}

			w.must(os.Remove(m.Path("/srv/bot/conf")))
			w.must(os.Rename(m.Path("/srv/bot/aside"), m.Path("/srv/bot/conf")))
			w.files["services/bot/files/srv/bot/conf/x"] = "three"
			w.push("third", history.OutcomeDone)
			if got := read(t, m.Path("/srv/bot/conf/x")); got != "three" {
				t.Errorf("x = %q", got)
			}
			if h, _ := w.db.Host("a"); h.State != history.Current {
				t.Errorf("host is %s (%s), want current", h.State, h.Error)
			}
		})
	}
}

// What a service's user bars on one host holds back his service there, and nothing on the hosts of later waves.
func TestBarredOnOneHostStopsNoOther(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = "rollout: { waves: [1, 1], max_failures: 5 }\n"
	w.service("bot", map[string]string{"files/srv/bot/conf/x": "one"})
	w.service("other", map[string]string{"files/etc/other": "one"})
	for _, name := range []string{"a", "b"} {
		w.enable(name, "bot", "other")
		m := w.machines[name]
		w.must(os.MkdirAll(m.Path("/srv/bot"), 0o777))
		w.must(os.Chmod(m.Path("/srv/bot"), 0o777))
	}
	w.push("first", history.OutcomeDone)

	m := w.machines["a"]
	w.must(os.Rename(m.Path("/srv/bot/conf"), m.Path("/srv/bot/aside")))
	w.must(os.Symlink("/etc", m.Path("/srv/bot/conf")))
	w.files["services/bot/files/srv/bot/conf/x"] = "two"
	w.files["services/other/files/etc/other"] = "two"
	w.push("second", history.OutcomePartial)
	if got := read(t, w.machines["b"].Path("/srv/bot/conf/x")); got != "two" {
		t.Errorf("x on b is %q", got)
	}
	for name, want := range map[string]history.State{"a": history.HeldBack, "b": history.Current} {
		if h, _ := w.db.Host(name); h.State != want {
			t.Errorf("%s is %s (%s), want %s", name, h.State, h.Error, want)
		}
	}
}

// A host that left a service by itself, since services were not isolated then, has a record that no commit explains. Its other
// services come all the same when they are isolated again and the path is barred still.
func TestBarredWhereNobodyKnowsWhatStands(t *testing.T) {
	w := newWorld(t, "a")
	w.service("bot", map[string]string{"files/srv/bot/conf/x": "one"})
	w.service("other", map[string]string{"files/etc/other": "one"})
	w.enable("a", "bot", "other")
	m := w.machines["a"]
	w.must(os.MkdirAll(m.Path("/srv/bot"), 0o777))
	w.must(os.Chmod(m.Path("/srv/bot"), 0o777))
	w.push("first", history.OutcomeDone)

	w.must(os.Rename(m.Path("/srv/bot/conf"), m.Path("/srv/bot/aside")))
	w.must(os.Symlink("/etc", m.Path("/srv/bot/conf")))
	for i, top := range []string{"isolate: false\n", "", ""} {
		w.top = top
		value := fmt.Sprint("push ", i)
		w.files["services/bot/files/srv/bot/conf/x"] = value
		w.files["services/other/files/etc/other"] = value
		w.push(value, history.OutcomeFailed)
		if got := read(t, m.Path("/etc/other")); got != value {
			h, _ := w.db.Host("a")
			t.Errorf("%s: the other service has %q; the host is %s (%s)", value, got, h.State, h.Error)
		}
	}
}

// A host that holds a service back, and then goes back as a whole for others, says of that service still
// that it is not at the host's commit.
func TestAHeldServiceBesideFailedOnes(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 5, "one\n")
	w.push("first", history.OutcomeDone)
	numbered(w, "a", 5, "two\n")
	breaks(w, "s03")
	w.push("second", history.OutcomePartial)

	numbered(w, "a", 5, "three\n")
	for i := range 3 {
		oneAfterTheOther(w, i)
	}
	w.push("third", history.OutcomeFailed)
	wantServices(w, "a", "s00 failed 02", "s01 failed 02", "s02 failed 02", "s03 held-back 01", "s04 current 02")
}
