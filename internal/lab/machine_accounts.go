package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/host/machine"
)

// The twin may not chown, so it remembers whose a file would be. An inode's number is used
// again after its file is gone; with the time of birth it is not.
type inode struct {
	major, minor uint32
	ino          uint64
	sec          int64
	nsec         uint32
}

// goneID stands for the number of a user or group that is gone.
const goneID = "64999"

type owner struct{ user, group string }

// accountName is sysusers' own rule.
var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

type twinAccounts struct{ m *Machine }

func (m *Machine) addAccounts() {
	for i, name := range []string{"root", "daemon", "nobody"} {
		gid := []int{0, 1, 65534}[i]
		m.groups[name] = gid
		m.users[name] = machine.Account{Name: name, Group: name, Home: []string{"/root", "/usr/sbin", "/nonexistent"}[i], UID: gid, GID: gid}
	}
}

// AddUser makes an account by hand, and its group where missing.
func (m *Machine) AddUser(name, group, home string) {
	m.set(func() {
		m.addGroup(group)
		m.addUser(name, group, home)
	})
}

// Account looks up a user.
func (m *Machine) Account(name string) (machine.Account, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.users[name]
	return a, ok
}

// SetAccount changes a user of m by hand, and the groups that it joined.
func SetAccount(m *Machine, a machine.Account, joined ...string) {
	m.set(func() {
		m.users[a.Name] = a
		if m.joined == nil {
			m.joined = map[string][]string{}
		}
		m.joined[a.Name] = joined
	})
}

// DeleteAccount deletes a user of m, as userdel by hand would.
func DeleteAccount(m *Machine, name string) {
	m.set(func() { delete(m.users, name) })
}

// SetOwner gives a path to a user and a group, as chown -h by hand would.
func (m *Machine) SetOwner(path, user, group string) error {
	return twinAccounts{m}.remember(unix.AT_FDCWD, m.Path(path), path, user, group)
}

func (m *Machine) addGroup(name string) {
	if _, ok := m.groups[name]; !ok {
		m.groups[name] = 900 - len(m.groups)
	}
}

func (m *Machine) addUser(name, group, home string) {
	if _, ok := m.users[name]; !ok {
		m.users[name] = machine.Account{Name: name, Group: group, Home: home, Shell: "/usr/sbin/nologin", UID: 900 - len(m.users), GID: m.groups[group]}
	}
}

func (a twinAccounts) User(name string) (machine.Account, bool, error) {
	acc, ok := a.m.Account(name)
	return acc, ok, nil
}

func (a twinAccounts) Group(name string) (int, bool, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	gid, ok := a.m.groups[name]
	return gid, ok, nil
}

func (a twinAccounts) Joined(user string) ([]string, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return slices.Sorted(slices.Values(a.m.joined[user])), nil
}

func (a twinAccounts) UserOf(uid int) (string, bool, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	for name, u := range a.m.users {
		if u.UID == uid {
			return name, true, nil
		}
	}
	return "", false, nil
}

func (a twinAccounts) GroupOf(gid int) (string, bool, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	for name, g := range a.m.groups {
		if g == gid {
			return name, true, nil
		}
	}
	return "", false, nil
}

func (a twinAccounts) Sysusers(_ context.Context, paths []string) error {
	return a.eachLine(paths, a.sysuser)
}

// field is one field of a line; "" when the line is shorter.
func field(f []string, i int) string {
	if i >= len(f) {
		return ""
	}
	return f[i]
}

// sysuser is one line of sysusers.d. As the real one it only adds, and makes what is
// misspelt.
func (a twinAccounts) sysuser(f []string) error {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	name := f[1]
	if !accountName.MatchString(name) {
		return fmt.Errorf("'%s' is not a valid name", name)
	}

	switch f[0] {
	case "g":
		a.m.addGroup(name)
		if gid, err := strconv.Atoi(field(f, 2)); err == nil {
			a.m.groups[name] = gid
		}
	case "u", "u!":
		group, home := name, "/"
		if len(f) > 2 {
			if _, g, ok := strings.Cut(f[2], ":"); ok {
				group = g
			}
		}
		if len(f) > 4 && f[4] != "-" {
			home = f[4]
		}
		if _, ok := a.m.groups[group]; !ok && group != name {
			return fmt.Errorf("group %s of user %s does not exist", group, name)
		}
		a.m.addGroup(group)
		_, had := a.m.users[name]
		a.m.addUser(name, group, home)
		uid, _, _ := strings.Cut(field(f, 2), ":")
		if id, err := strconv.Atoi(uid); err == nil && !had {
			acc := a.m.users[name]
			acc.UID = id
			a.m.users[name] = acc
		}
	case "m":
		if len(f) < 3 {
			return fmt.Errorf("line m lacks its group")
		}
		a.m.addGroup(f[2])
		a.m.addGroup(name)
		a.m.addUser(name, name, "/")
	default:
		return fmt.Errorf("unknown line type %q", f[0])
	}

	return nil
}

func (a twinAccounts) Tmpfiles(_ context.Context, paths []string) error {
	return a.eachLine(paths, a.tmpfile)
}

func (a twinAccounts) tmpfile(f []string) error {
	if strings.TrimRight(f[0], "!-+=~^$") != "d" {
		return fmt.Errorf("the twin knows only d lines, not %q", f[0])
	}

	mode, user, group := uint64(0o755), "root", "root"
	for i, v := range f[2:] {
		if v == "-" {
			continue
		}
		switch i {
		case 0:
			var err error
			if mode, err = strconv.ParseUint(strings.TrimLeft(v, "~:"), 8, 32); err != nil {
				return err
			}
		case 1:
			user = v
		case 2:
			group = v
		}
	}

	p := a.m.Path(f[1])
	if err := os.MkdirAll(p, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(p, os.FileMode(mode)); err != nil {
		return err
	}

	return a.remember(unix.AT_FDCWD, p, f[1], user, group)
}

func (a twinAccounts) eachLine(paths []string, do func([]string) error) error {
	for _, path := range paths {
		f, err := os.Open(a.m.Path(path))
		if err != nil {
			return err
		}
		defer f.Close()
		s := bufio.NewScanner(f)
		for n := 1; s.Scan(); n++ {
			line := strings.TrimSpace(s.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			fields := splitQuoted(line)
			if len(fields) < 2 {
				return fmt.Errorf("%s:%d: a line of one word", path, n)
			}
			if err := do(fields); err != nil {
				return fmt.Errorf("%s:%d: %w", path, n, err)
			}
		}

		if s.Err() != nil {
			return s.Err()
		}
	}
	return nil
}

// splitQuoted splits at blanks, but not within quotes.
func splitQuoted(line string) (fields []string) {
	var b strings.Builder
	var quote rune
	in := false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				fields = append(fields, b.String())
			}
			b.Reset()
			in = false
		default:
			b.WriteRune(c)
			in = true
		}
	}

	if in {
		fields = append(fields, b.String())
	}

	return fields
}

func (a twinAccounts) Usermod(_ context.Context, acc machine.Account) error {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	was, ok := a.m.users[acc.Name]
	if !ok {
		return fmt.Errorf("usermod: user '%s' does not exist", acc.Name)
	}

	gid, ok := a.m.groups[acc.Group]
	if !ok {
		return fmt.Errorf("usermod: group '%s' does not exist", acc.Group)
	}
	if p := a.m.busy(acc.Name); len(p) > 0 && was.Home != acc.Home {
		return fmt.Errorf("usermod: user %s is currently used by process %d", acc.Name, p[0].PID)
	}

	was.Group, was.GID, was.Home = acc.Group, gid, acc.Home
	a.m.users[acc.Name] = was
	return nil
}

func (a twinAccounts) Busy(user string) ([]machine.Process, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return a.m.busy(user), nil
}

// busy is what runs as a user: services whose unit file names him, and what a test started.
func (m *Machine) busy(user string) []machine.Process {
	all := append(m.systemd.RunAs(user), m.strangers[user]...)
	slices.SortFunc(all, func(a, b machine.Process) int { return a.PID - b.PID })
	return all
}

func (a twinAccounts) Chown(f *os.File, path, user, group string) error {
	return a.rememberAt(int(f.Fd()), "", unix.AT_EMPTY_PATH, path, user, group)
}

func (a twinAccounts) remember(dir int, name, path, user, group string) error {
	return a.rememberAt(dir, name, unix.AT_SYMLINK_NOFOLLOW, path, user, group)
}

func (a twinAccounts) rememberAt(dir int, name string, flags int, path, user, group string) error {
	id, err := identify(dir, name, flags)
	if err != nil {
		return fmt.Errorf("chown %s: %w", path, err)
	}

	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if _, ok := a.m.users[user]; !ok {
		return fmt.Errorf("chown %s: no user %s", path, user)
	}
	if _, ok := a.m.groups[group]; !ok {
		return fmt.Errorf("chown %s: no group %s", path, group)
	}

	a.m.owners[id] = owner{user, group}
	return nil
}

func identify(dir int, name string, flags int) (inode, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, flags, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return inode{}, err
	}
	return inode{st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec}, nil
}

func (a twinAccounts) Owner(f *os.File, _ *unix.Stat_t) (user, group string, err error) {
	return a.m.owner(int(f.Fd()), "", unix.AT_EMPTY_PATH)
}

// Owner tells whose a path is, as ls by hand would, not following a link.
func (m *Machine) Owner(path string) (user, group string, err error) {
	return m.owner(unix.AT_FDCWD, m.Path(path), unix.AT_SYMLINK_NOFOLLOW)
}

func (m *Machine) owner(dir int, name string, flags int) (user, group string, err error) {
	id, err := identify(dir, name, flags)
	if err != nil {
		return "", "", err
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.owners[id]
	if !ok {
		return "root", "root", nil
	}
	if _, there := m.users[o.user]; !there {
		o.user = goneID
	}
	if _, there := m.groups[o.group]; !there {
		o.group = goneID
	}

	return o.user, o.group, nil
}

func (a twinAccounts) Command(name string) bool {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return !a.m.lacks[name]
}
