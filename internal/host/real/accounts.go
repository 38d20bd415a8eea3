package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/host/machine"
	"bellhop/internal/nameshape"
)

// Accounts implements host.Accounts with the host's own tools. Look-ups read /etc/passwd and
// /etc/group first, which is where bellhop's accounts are, and ask getent for the rest: LDAP,
// systemd-homed.
type Accounts struct{}

var _ machine.Accounts = Accounts{}

// validName is sysusers' rule, checked before an account is changed. A look-up takes what a
// host may have besides (Debian-exim), but nothing that getent could take for an option.
var (
	validName = nameshape.New("a-z_", "a-z0-9_-", 31)
	lookName  = nameshape.New("A-Za-z0-9_.", `A-Za-z0-9_.@$+\-`, 4096)
	number    = nameshape.Of("0-9", 9)
)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q is no name for a user or group", name)
	}
	return nil
}

// User looks up a user by name.
func (a Accounts) User(name string) (machine.Account, bool, error) {
	f, ok, err := lookup(passwd, name)
	if err != nil || !ok {
		return machine.Account{}, false, err
	}
	return a.account(f)
}

func (a Accounts) account(f []string) (acc machine.Account, ok bool, err error) {
	if len(f) < 6 {
		return acc, false, fmt.Errorf("user %s: a line of %d fields", f[0], len(f))
	}

	acc = machine.Account{Name: f[0], Home: f[5]}
	if len(f) > 6 {
		acc.Shell = f[6]
	}
	if acc.UID, err = strconv.Atoi(f[2]); err == nil {
		acc.GID, err = strconv.Atoi(f[3])
	}
	if err != nil {
		return acc, false, fmt.Errorf("user %s: %w", f[0], err)
	}

	acc.Group, err = groupName(acc.GID)
	return acc, err == nil, err
}

// Group looks up a group by name.
func (a Accounts) Group(name string) (gid int, ok bool, err error) {
	f, ok, err := lookup(groups, name)
	if err != nil || !ok {
		return 0, false, err
	}
	gid, err = strconv.Atoi(f[2])
	return gid, err == nil, err
}

// Joined lists the groups of /etc/group that name a user as a member.
func (a Accounts) Joined(user string) (names []string, err error) {
	err = groups.each(func(f []string) {
		if slices.Contains(strings.Split(f[3], ","), user) {
			names = append(names, f[0])
		}
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

// UserOf names the user that has a uid.
func (a Accounts) UserOf(uid int) (string, bool, error) { return whose(passwd, uid) }

// GroupOf names the group that has a gid.
func (a Accounts) GroupOf(gid int) (string, bool, error) { return whose(groups, gid) }

func whose(t *table, id int) (string, bool, error) {
	f, ok, err := find(t, 2, strconv.Itoa(id))
	if err != nil || !ok {
		return "", false, err
	}
	return f[0], true, nil
}

func lookup(t *table, name string) ([]string, bool, error) {
	if !lookName.MatchString(name) {
		return nil, false, nil // no account can have it
	}
	return find(t, 0, name)
}

func groupName(gid int) (string, error) { return nameOf(groups, gid) }
func userName(uid int) (string, error)  { return nameOf(passwd, uid) }

// nameOf gives the name of an id, or the id itself where it has none: a file may outlive its
// user.
func nameOf(t *table, id int) (string, error) {
	f, ok, err := find(t, 2, strconv.Itoa(id))
	if err != nil || !ok {
		return strconv.Itoa(id), err
	}
	return f[0], nil
}

// find gives the line of an account file whose field is value.
func find(t *table, field int, value string) ([]string, bool, error) {
	fields, ok, err := t.find(field, value)
	if ok || err != nil {
		return fields, ok, err
	}

	fields, ok, err = getent(t.path, value)
	if ok && fields[field] != value { // getent takes a name of digits for an id
		return nil, false, nil
	}

	return fields, ok, err
}

// getent asks what the files do not know. Not found is status 2; a host without getent has
// nothing but its files.
func getent(file, value string) ([]string, bool, error) {
	db := strings.TrimPrefix(file, "/etc/")
	out, err := exec.Command("getent", db, value).Output()
	var status *exec.ExitError
	switch {
	case errors.As(err, &status) && status.ExitCode() == 2, errors.Is(err, exec.ErrNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("getent %s %s: %w", db, value, err)
	}

	line, _, _ := strings.Cut(string(out), "\n")
	fields := strings.Split(line, ":")
	return fields, len(fields) >= 4, nil
}

// Sysusers makes the accounts of these snippets, and nothing else's.
func (a Accounts) Sysusers(ctx context.Context, paths []string) error {
	return applySnippets(ctx, "systemd-sysusers", nil, paths)
}

// Tmpfiles makes the folders of these snippets, and nothing else's.
func (a Accounts) Tmpfiles(ctx context.Context, paths []string) error {
	return applySnippets(ctx, "systemd-tmpfiles", []string{"--create"}, paths)
}

func applySnippets(ctx context.Context, program string, args, paths []string) error {
	if len(paths) == 0 {
		return nil // without a path these tools apply everything on the host
	}

	for _, p := range paths {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("%s: path %q is not absolute", program, p)
		}
	}

	return run(ctx, program, append(args, paths...)...)
}

// Usermod makes a user's home and primary group what acc says. Nothing is moved.
func (a Accounts) Usermod(ctx context.Context, acc machine.Account) error {
	if err := errors.Join(checkName(acc.Name), checkName(acc.Group)); err != nil {
		return err
	}
	if !strings.HasPrefix(acc.Home, "/") || strings.ContainsAny(acc.Home, ":\n") {
		return fmt.Errorf("home %q of user %s", acc.Home, acc.Name)
	}
	return run(ctx, "usermod", "-d", acc.Home, "-g", acc.Group, acc.Name)
}

func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Chown gives what is open as f away, a link that was opened with O_PATH too. path only names
// it in errors: the descriptor can't be swapped, a path can.
func (a Accounts) Chown(f *os.File, path, user, group string) error {
	uid, gid, err := a.ids(user, group)
	if err == nil {
		err = unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("chown %s: %w", path, err)
	}
	return nil
}

// ids turns names into numbers. A number stands for itself: what an undo gives back may have
// had an owner without a name.
func (a Accounts) ids(user, group string) (uid, gid int, err error) {
	u, ok, err := a.User(user)
	uid = u.UID
	if err == nil && !ok {
		uid, err = bareID("user", user)
	}
	if err != nil {
		return 0, 0, err
	}

	gid, ok, err = a.Group(group)
	if err == nil && !ok {
		gid, err = bareID("group", group)
	}

	return uid, gid, err
}

func bareID(kind, name string) (int, error) {
	if !number.MatchString(name) {
		return 0, fmt.Errorf("no %s %s", kind, name)
	}
	return strconv.Atoi(name)
}

// Owner names the ids that fstat gave.
func (a Accounts) Owner(_ *os.File, st *unix.Stat_t) (user, group string, err error) {
	if user, err = userName(int(st.Uid)); err != nil {
		return "", "", err
	}
	group, err = groupName(int(st.Gid))
	return user, group, err
}

// Command tells whether a program of that name is on the PATH that units have, or a path that
// can be executed.
func (a Accounts) Command(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
