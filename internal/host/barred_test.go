package host_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// of makes everything that l holds so far one service's.
func (l *load) of(service string) *load {
	for i := range l.Files {
		if l.Files[i].Service == "bot" {
			l.Files[i].Service = service
		}
	}
	for i := range l.Keys {
		if l.Keys[i].Service == "bot" {
			l.Keys[i].Service = service
		}
	}
	for i := range l.Units {
		if l.Units[i].Service == "bot" {
			l.Units[i].Service = service
		}
	}
	return l
}

// twoServices are web, and bot, which has a file in its user's folder.
func twoServices(web, bot string) *load {
	l := newLoad().service("web.service", "[Service]\nExecStart=/web\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/web.conf", "key:web").
		file("/etc/web.conf", web).key("web", web).of("web")
	return l.service("bot.service", "[Service]\nExecStart=/bot\n#"+bot+"\n[Install]\nWantedBy=multi-user.target\n", "file:/srv/bot/conf/x.conf", "key:bot").
		file("/srv/bot/conf/x.conf", bot).file("/etc/bot.conf", bot).key("bot", bot)
}

// A path that a service's user bars fails his service: what the host has of it stays as it is, to
// the last file, and the others are brought.
func TestBarredPathFailsItsServiceAlone(t *testing.T) {
	for name, bar := range map[string]func(b *box){
		"a link in the folder's place": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.Symlink("/etc", b.path("/srv/bot/conf"))
		},
		"a pipe in the file's place": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.Mkdir(b.path("/srv/bot/conf"), 0o755)
			unix.Mkfifo(b.path("/srv/bot/conf/x.conf"), 0o666)
		},
		"a folder in the file's place": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.MkdirAll(b.path("/srv/bot/conf/x.conf/deep"), 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := sharedBox(t)
			first := b.deploy(twoServices("one", "one"), bundle.OutcomeDone)
			bar(b)
			b.jobs = nil
			l := twoServices("two", "two").file("/etc/bot.new", "new")
			o := l.offer()
			got := b.deployOffer(o, l, bundle.OutcomeFailed)
			if !strings.Contains(got.res.Error, "service bot is left as it is") || !strings.Contains(got.res.Error, "/srv/bot/conf") || !strings.Contains(got.res.Error, "user ") {
				t.Errorf("error %q, want it to name service, path and user", got.res.Error)
			}
			for p, want := range map[string]string{"/etc/web.conf": "two", "/run/keys/web": "two", "/etc/bot.conf": "one", "/run/keys/bot": "one", "/srv/bot/aside/x.conf": "one"} {
				if got := b.read(p); got != want {
					t.Errorf("%s = %q, want %q", p, got, want)
				}
			}
			if _, err := os.Stat(b.path("/etc/bot.new")); err == nil {
				t.Error("a new file of the service that is held was put there")
			}
			wantList(t, "jobs", b.jobs, "restart web.service")
			rec := got.res.Record
			if rec == nil || rec.Digest == o.Digest || rec.Digest != bundle.HeldDigest(o.Digest) || rec.Generation != first.res.Record.Generation+1 {
				t.Errorf("record %+v, want another generation that claims no bundle", rec)
			}

			// Again: nothing is left to do but what is barred.
			b.jobs = nil
			o = l.offer()
			got = b.deployOffer(o, l, bundle.OutcomeFailed)
			if rec := got.res.Record; rec.Digest == o.Digest || len(b.jobs) != 0 {
				t.Errorf("record %+v, jobs %q; want it as it was", rec, b.jobs)
			}

			os.RemoveAll(b.path("/srv/bot/conf"))
			os.Rename(b.path("/srv/bot/aside"), b.path("/srv/bot/conf"))
			o = l.offer()
			got = b.deployOffer(o, l, bundle.OutcomeDone)
			if b.read("/srv/bot/conf/x.conf") != "two" || b.read("/run/keys/bot") != "two" || b.read("/etc/bot.new") != "new" || got.res.Record.Digest != o.Digest {
				t.Errorf("after it was moved away: %q, %q, record %+v", b.read("/srv/bot/conf/x.conf"), b.read("/run/keys/bot"), got.res.Record)
			}
		})
	}
}

// What shares a path with a service that is barred stays as it is with it: the path can't hold what one
// wants now and what the other had.
func TestBarredServiceHoldsThoseTiedToIt(t *testing.T) {
	tied := func(content string) *load {
		l := twoServices(content, content).file("/etc/both.conf", content)
		l.Shared = []bundle.Shared{{Resource: "file:/etc/both.conf", Services: []string{"bot", "web"}}}
		l.file("/etc/free.conf", content)
		l.Files[len(l.Files)-1].Service = "free"
		return l
	}
	b := sharedBox(t)
	b.deploy(tied("one"), bundle.OutcomeDone)
	os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
	os.Symlink("/etc", b.path("/srv/bot/conf"))

	got := b.deploy(tied("two"), bundle.OutcomeFailed)
	if want := "service web is left as it is: it shares path /etc/both.conf with bot"; !strings.Contains(got.res.Error, want) {
		t.Errorf("error %q, want %q in it", got.res.Error, want)
	}
	for p, want := range map[string]string{"/etc/both.conf": "one", "/etc/web.conf": "one", "/run/keys/web": "one", "/etc/bot.conf": "one", "/etc/free.conf": "two"} {
		if got := b.read(p); got != want {
			t.Errorf("%s = %q, want %q", p, got, want)
		}
	}
}

// A service that is new and barred is not there at all.
func TestBarredNewService(t *testing.T) {
	b := sharedBox(t)
	os.RemoveAll(b.path("/srv/bot/conf"))
	os.Symlink("/etc", b.path("/srv/bot/conf"))
	b.deploy(twoServices("one", "one"), bundle.OutcomeFailed)
	if b.read("/etc/web.conf") != "one" || !b.active["web.service"] {
		t.Error("the other service was not brought")
	}
	for _, p := range []string{"/etc/bot.conf", "/run/keys/bot", bundle.UnitDir + "/bot.service", "/etc/x.conf"} {
		if _, err := os.Lstat(b.path(p)); err == nil {
			t.Errorf("%s is there", p)
		}
	}
	if res := b.ask(bundle.Ask{Verb: bundle.AskUndo}); res.Outcome != bundle.OutcomeDone {
		t.Errorf("undo = %+v", res)
	}
}

// To a deployer that isolates services, the host names those whose paths are barred, all at once and before anything is touched; in the
// offer that follows, which has of them what the host holds, they stay as they are.
func TestBarredPathIsRefusedToWhoIsolates(t *testing.T) {
	b := sharedBox(t)
	b.deploy(twoServices("one", "one"), bundle.OutcomeDone)
	os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
	os.Symlink("/etc", b.path("/srv/bot/conf"))

	l := twoServices("two", "two")
	o := l.offer()
	o.Isolates = true
	b.jobs = nil
	got := b.deployOffer(o, l, bundle.OutcomeRefused)
	if !slices.Equal(got.res.Failing, []string{"bot"}) || !strings.Contains(got.res.Error, "/srv/bot/conf is barred by something of user ") || !strings.Contains(got.res.Error, "move that away on the host") {
		t.Errorf("due to %q: %s", got.res.Failing, got.res.Error)
	}
	if b.read("/etc/web.conf") != "one" || len(b.jobs) > 0 {
		t.Errorf("web.conf %q, jobs %q: something was touched", b.read("/etc/web.conf"), b.jobs)
	}

	l = twoServices("two", "one")
	o = l.offer()
	o.Isolates, o.Held = true, []string{"bot"}
	got = b.deployOffer(o, l, bundle.OutcomeDone)
	if _, err := os.Lstat(b.path("/etc/x.conf")); err == nil || b.read("/etc/web.conf") != "two" || b.read("/srv/bot/aside/x.conf") != "one" {
		t.Errorf("web.conf %q, x.conf %q", b.read("/etc/web.conf"), b.read("/srv/bot/aside/x.conf"))
	}
	if !strings.Contains(strings.Join(got.res.Warnings, "\n"), "service bot is left as it is") {
		t.Errorf("warnings %q", got.res.Warnings)
	}
}

// What is barred in a folder of root's alone is nobody's fault but the admin's: the host is refused.
func TestBarredByRootRefusesTheHost(t *testing.T) {
	b := newBox(t)
	os.MkdirAll(b.path("/etc/bot.conf"), 0o755)
	b.deploy(twoServices("one", "one"), bundle.OutcomeRefused)
}

// A path may be barred while the run is at work: the run is undone whole, and it is due to the service whose path that is. The
// deployer then holds back that one, as it does with any other service that fails.
func TestPathBarredDuringTheRunIsDueToItsService(t *testing.T) {
	bars := map[string]func(b *box){
		"a link": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.Symlink("/etc", b.path("/srv/bot/conf"))
		},
		"a link that leads nowhere": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.Symlink("/nowhere", b.path("/srv/bot/conf"))
		},
		"a file in the folder's place": func(b *box) {
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.WriteFile(b.path("/srv/bot/conf"), nil, 0o644)
		},
		"a folder in the file's place": func(b *box) {
			os.Remove(b.path("/srv/bot/conf/x.conf"))
			os.MkdirAll(b.path("/srv/bot/conf/x.conf/deep"), 0o755)
		},
		"a pipe in the file's place": func(b *box) {
			os.Remove(b.path("/srv/bot/conf/x.conf"))
			unix.Mkfifo(b.path("/srv/bot/conf/x.conf"), 0o666)
		},
	}
	for name, bar := range bars {
		for _, step := range []string{"preflight", "begin", "stop", "keep", "accounts"} {
			t.Run(name+" at "+step, func(t *testing.T) {
				b := sharedBox(t)
				b.deploy(twoServices("one", "one"), bundle.OutcomeDone)
				os.Chmod(b.path("/srv/bot/conf"), 0o777)
				done := false
				b.m.Reached = func(s string) {
					if s == step && !done {
						done = true
						bar(b)
					}
				}
				l := twoServices("two", "two")
				got, err := b.talk(l.offer(), l)
				if err != nil {
					t.Fatal(err)
				}
				if got.res.Outcome == bundle.OutcomeDone { // a pipe in a file's place can be replaced by then
					return
				}
				if got.res.Outcome != bundle.OutcomeRolledBack || !slices.Equal(got.res.Failing, []string{"bot"}) {
					t.Errorf("%s, due to %q, want rolled-back for bot: %s", got.res.Outcome, got.res.Failing, got.res.Error)
				}
				for p, want := range map[string]string{"/etc/web.conf": "one", "/run/keys/web": "one", "/etc/bot.conf": "one", "/run/keys/bot": "one"} {
					if got := b.read(p); got != want {
						t.Errorf("%s = %q, want %q", p, got, want)
					}
				}
				if _, err := os.Lstat(b.path("/etc/x.conf")); err == nil || !b.active["web.service"] || !b.active["bot.service"] {
					t.Errorf("x.conf through the link: %v; active %v", err, b.active)
				}

				// What is barred still is refused by its name, and the others come.
				l = twoServices("two", "two")
				o := l.offer()
				o.Isolates = true
				if got, err := b.talk(o, l); err != nil || got.res.Outcome == bundle.OutcomeRefused && !slices.Equal(got.res.Failing, []string{"bot"}) {
					t.Errorf("the next push: %+v, %v", got.res, err)
				}
				l = twoServices("three", "one")
				o = l.offer()
				o.Isolates, o.Held = true, []string{"bot"}
				b.deployOffer(o, l, bundle.OutcomeDone)
				if got := b.read("/etc/web.conf"); got != "three" {
					t.Errorf("web.conf = %q after the next push", got)
				}
			})
		}
	}
}

// A path that a service gives up is its own too, while it stays.
func TestLeavingPathBarredDuringTheRun(t *testing.T) {
	b := sharedBox(t)
	b.deploy(twoServices("one", "one"), bundle.OutcomeDone)
	done := false
	b.m.Reached = func(s string) {
		if s == "begin" && !done {
			done = true
			os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
			os.Symlink("/etc", b.path("/srv/bot/conf"))
		}
	}
	l := twoServices("two", "two")
	l.Files = slices.DeleteFunc(l.Files, func(f bundle.File) bool { return f.Path == "/srv/bot/conf/x.conf" })
	got := b.deploy(l, bundle.OutcomeRolledBack)
	if !slices.Equal(got.res.Failing, []string{"bot"}) || b.read("/etc/web.conf") != "one" {
		t.Errorf("due to %q, web.conf %q: %s", got.res.Failing, b.read("/etc/web.conf"), got.res.Error)
	}
}

// A run that goes back for another reason leaves what was barred meanwhile, says so, and brings back all the rest.
func TestUndoLeavesWhatIsBarred(t *testing.T) {
	for _, step := range []string{"files", "undo"} {
		t.Run("barred after "+step, func(t *testing.T) {
			b := sharedBox(t)
			b.deploy(twoServices("one", "one"), bundle.OutcomeDone)
			done := false
			b.m.Reached = func(s string) {
				if s == "undo paths" {
					b.fail["web.service"] = false
				}
				isUndo := step == "undo" && strings.HasPrefix(s, "undone /etc/")
				if (s == step || isUndo) && !done {
					done = true
					os.Rename(b.path("/srv/bot/conf"), b.path("/srv/bot/aside"))
					os.WriteFile(b.path("/srv/bot/conf"), nil, 0o644)
				}
			}

			b.fail["web.service"] = true
			l := twoServices("two", "two")
			got, err := b.talk(l.offer(), l)
			if err != nil || !done {
				t.Fatal(err, done)
			}
			if got.res.Outcome != bundle.OutcomeRolledBack || !slices.Equal(got.res.Failing, []string{"web"}) {
				t.Errorf("%s, due to %q: %s", got.res.Outcome, got.res.Failing, got.res.Error)
			}
			for p, want := range map[string]string{"/etc/web.conf": "one", "/run/keys/web": "one", "/etc/bot.conf": "one", "/run/keys/bot": "one"} {
				if got := b.read(p); got != want {
					t.Errorf("%s = %q, want %q", p, got, want)
				}
			}
			if all := strings.Join(got.res.Warnings, "\n"); step == "files" && !strings.Contains(all, "/srv/bot/conf/x.conf could not be put back") {
				t.Errorf("warnings %q", all)
			}
		})
	}
}
