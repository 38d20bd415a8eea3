package host_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// withIDs is a load whose one user has fixed numbers.
func withIDs(uid, gid uint32) *load {
	l := bot("one").user("app")
	l.Users[0].UID, l.Users[0].GID = uid, gid
	return l
}

// A number that the host can't give is refused before anything is touched, and says whose it is.
func TestFixedIDsOfTheHost(t *testing.T) {
	for name, c := range map[string]struct {
		uid, gid uint32
		user     *host.Account  // that is there
		groups   map[string]int // that are there
		want     string         // "" is done
	}{
		"free":                 {uid: 990, gid: 991},
		"as it is":             {uid: 900, gid: 900, user: &host.Account{Name: "app", Group: "app", Home: "/srv/app", UID: 900, GID: 900}, groups: map[string]int{"app": 900}},
		"another user has it":  {uid: 990, user: &host.Account{Name: "alice", UID: 990}, want: "uid 990 of user app is that of user alice on the host"},
		"another group has it": {gid: 991, groups: map[string]int{"media": 991}, want: "gid 991 of group app is that of group media on the host"},
		"the user has another": {uid: 990, user: &host.Account{Name: "app", Group: "app", Home: "/srv/app", UID: 1001}, want: "user app has uid 1001 on the host, and the repo says 990: write uid: 1001"},
		"its group has another": {gid: 991, groups: map[string]int{"app": 1001},
			want: "group app has gid 1001 on the host, and the repo says 991: write gid: 1001"},
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
	b.users["app"] = host.Account{Name: "app", Group: "users", Home: "/home/app", UID: 1000}
	got := b.deploy(bot("one").user("app"), bundle.OutcomeRefused)
	for _, want := range []string{"user app was on the host before bellhop, with group users and home /home/app", "leave user: out of service.yaml and write User=app into the unit", "write user: { name: app, group: users, home: /home/app }"} {
		if !strings.Contains(got.res.Error, want) {
			t.Errorf("refused by %q, want %q in it", got.res.Error, want)
		}
	}
}
