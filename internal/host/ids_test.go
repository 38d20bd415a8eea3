package host_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// withIDs is a load whose one user has fixed numbers.
func withIDs(uid, gid uint32) *load {
	l := bot("one")
	l.Users[0].UID, l.Users[0].GID = uid, gid
	return l
}

// A number that the host can't give is refused before anything is touched, and says whose it is.
func TestFixedIDsOfTheHost(t *testing.T) {
	for name, c := range map[string]struct {
		uid, gid uint32
		user     *machine.Account // that is there
		groups   map[string]int   // that are there
		want     string           // "" is done
	}{
		"free":                 {uid: 990, gid: 991},
		"as it is":             {uid: 900, gid: 900, user: &machine.Account{Name: "bot", Group: "bot", Home: "/srv/bot", UID: 900, GID: 900}, groups: map[string]int{"bot": 900}},
		"another user has it":  {uid: 990, user: &machine.Account{Name: "alice", UID: 990}, want: "uid 990 of user bot is that of user alice on the host"},
		"another group has it": {gid: 991, groups: map[string]int{"media": 991}, want: "gid 991 of group bot is that of group media on the host"},
		"the user has another": {uid: 990, user: &machine.Account{Name: "bot", Group: "bot", Home: "/srv/bot", UID: 1001}, want: "user bot has uid 1001 on the host, and the repo says 990: write uid: 1001"},
		"its group has another": {gid: 991, groups: map[string]int{"bot": 1001},
			want: "group bot has gid 1001 on the host, and the repo says 991: write gid: 1001"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			if c.user != nil {
				b.users[c.user.Name] = *c.user
			}
			for g, id := range c.groups {
				b.groups[g] = id
			}

			before := b.all()
			if c.want == "" {
				b.deploy(withIDs(c.uid, c.gid), bundle.OutcomeDone)
				return
			}
			got := b.deploy(withIDs(c.uid, c.gid), bundle.OutcomeRefused)
			if !strings.Contains(got.res.Error, c.want) {
				t.Errorf("refused by %q, want %q", got.res.Error, c.want)
			}
			b.compare(before, "after a refusal")
		})
	}
}

// A user that was there before is told what to write.
func TestUserOfTheHost(t *testing.T) {
	b := newBox(t)
	b.users["bot"] = machine.Account{Name: "bot", Group: "users", Home: "/home/bot", UID: 1000}
	got := b.deploy(bot("one"), bundle.OutcomeRefused)
	for _, want := range []string{"user bot was on the host before bellhop, with group users and home /home/bot", "leave user: out of service.yaml and write User=bot into the unit", "write user: { name: bot, group: users, home: /home/bot }"} {
		if !strings.Contains(got.res.Error, want) {
			t.Errorf("refused by %q, want %q in it", got.res.Error, want)
		}
	}
}
