package helper

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/check"
	"bellhop/internal/host/look"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// ask answers anything but an offer.
func (s *session) ask(ctx context.Context, a bundle.Ask) error {
	switch a.Verb {
	case bundle.AskManifest:
		now, err := s.m.Current()
		if err != nil {
			return s.reply(bundle.Reply{Error: err.Error()})
		}
		return s.reply(bundle.Reply{Manifest: &now.Manifest})
	case bundle.AskCheck:
		return s.reply(bundle.Reply{Facts: facts(ctx, s.m)})
	case bundle.AskVoid:
		return s.void(ctx, a.Run)
	case bundle.AskLook:
		return s.look(ctx, a.Look)
	case bundle.AskConfirm:
		return s.confirm(a.Run)
	case bundle.AskAttach:
		if !check.RunName.MatchString(a.Run) {
			return s.reply(bundle.Reply{Error: fmt.Sprintf("run id %q", a.Run)})
		}
		if _, err := os.Stat(s.m.Runs().Folder(a.Run)); err != nil {
			return s.reply(bundle.Reply{Error: fmt.Sprintf("the host knows no run %s", a.Run)})
		}
		return s.tail(ctx, a.Run)
	case bundle.AskUndo:
		return s.giveUp(ctx, a.Run)
	case bundle.AskRestart:
		return s.restart(ctx, a.Run, a.Service)
	}
	return s.reply(bundle.Reply{Error: fmt.Sprintf("unknown verb %q", a.Verb)})
}

func (s *session) reply(r bundle.Reply) error {
	return s.say(bundle.FrameReply, r)
}

// void follows a run that was begun. Any other can't begin any more: who brought it lost the line.
func (s *session) void(ctx context.Context, run string) error {
	if !check.RunName.MatchString(run) {
		return s.reply(bundle.Reply{Error: fmt.Sprintf("run id %q", run)})
	}

	end, err := s.m.Claim(s.at, true)
	if err != nil {
		return s.reply(bundle.Reply{Error: err.Error()})
	}

	begun := s.m.Ordered(run)
	end()
	if j, err := s.m.ReadJournal(); err != nil || j != nil && j.Run == run {
		begun = true
	}
	if res, err := s.m.Runs().Result(run); err != nil || res != nil {
		begun = true
	}
	if begun {
		return s.tail(ctx, run)
	}

	return s.reply(bundle.Reply{})
}

// confirm answers a deployer that still reaches this host: without an error when the run stays.
func (s *session) confirm(run string) error {
	if !check.RunName.MatchString(run) {
		return s.reply(bundle.Reply{Error: fmt.Sprintf("run id %q", run)})
	}
	if err := host.Confirm(s.m.Machine, run); err != nil {
		return s.reply(bundle.Reply{Error: err.Error()})
	}
	return s.reply(bundle.Reply{})
}

// look answers how the host does. It takes no lock: a run may be at work.
func (s *session) look(ctx context.Context, ask *bundle.Look) error {
	if ask == nil {
		ask = &bundle.Look{}
	}
	seen, err := look.Host(ctx, s.m, *ask)
	if err != nil {
		return s.reply(bundle.Reply{Error: err.Error()})
	}
	return s.say(bundle.FrameSeen, seen)
}

// giveUp is a run towards nothing: everything that bellhop owns leaves, and what stood
// there before returns.
func (s *session) giveUp(ctx context.Context, run string) error {
	now, err := s.m.Current()
	if err != nil {
		return err
	}
	if run == "" {
		run = "undo-" + strings.ToLower(rand.Text()[:12])
	}

	o := bundle.Offer{Run: run, Mode: bundle.ModeDeploy, Base: now.Generation, Deployer: now.Deployer,
		TakeOver: true, AllowPrune: true, Manifest: bundle.Manifest{Network: now.Network, Host: now.Host}}
	if err := check.Offer(&o); err != nil {
		return s.refuse(run, check.Refuse(bundle.RefusedBundle, "%w", err))
	}
	if err := s.first(&o); err != nil {
		return s.refuse(run, err)
	}
	if !now.Exists {
		return s.result(&bundle.Result{Run: run, Outcome: bundle.OutcomeNothing})
	}
	if err := s.begin(ctx, state.Order{Offer: o, GiveUp: true}, nil); err != nil {
		return s.refuse(run, err)
	}

	return s.tail(ctx, run)
}

// facts are what a person wants to know before trusting a host to bellhop.
func facts(ctx context.Context, m state.Dir) map[string]string {
	f := map[string]string{"arch": runtime.GOARCH, "uid": strconv.Itoa(os.Geteuid()), "helper": m.Helper,
		"clock_ms": strconv.FormatInt(m.Now().UnixMilli(), 10), "nixos": strconv.FormatBool(m.NixOS())}
	if v, err := m.Systemd.Version(ctx); err == nil {
		f["systemd"] = strconv.Itoa(v)
	}
	if b, err := m.BootID(); err == nil {
		f["boot_id"] = b
	}

	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f["kernel"] = unix.ByteSliceToString(u.Release[:])
		f["hostname"] = unix.ByteSliceToString(u.Nodename[:])
	}
	if p, err := os.ReadFile(m.At("/etc/machine-id")); err == nil {
		f["machine_id"] = strings.TrimSpace(string(p))
	}
	if p, err := os.ReadFile(m.At("/etc/os-release")); err == nil {
		for line := range strings.Lines(string(p)) {
			if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				f["os"] = strings.Trim(strings.TrimSpace(v), `"`)
			}
		}
	}

	for name, dir := range map[string]string{"noexec": bundle.StateDir, "noexec_packages": "/opt", "noexec_helper": owned.ParentOf(m.Helper)} {
		var st unix.Statfs_t
		if unix.Statfs(m.At(dir), &st) == nil {
			f[name] = strconv.FormatBool(st.Flags&unix.ST_NOEXEC != 0)
		}
	}

	if p, err := os.ReadFile("/sys/fs/selinux/enforce"); err == nil {
		f["selinux"] = strings.TrimSpace(string(p))
	}

	for _, c := range []string{"sudo", "systemd-creds", "podman", "usermod"} {
		f["has_"+strings.ReplaceAll(c, "-", "_")] = strconv.FormatBool(m.Accounts.Command(c))
	}

	f["swap_clear"] = strconv.FormatBool(m.Mounts.SwapClear())
	return f
}

// ownDigest is the digest of this process's executable. A helper lies under its digest, which was
// checked when it was put there; any other program reads itself, once.
var ownDigest = sync.OnceValue(func() string {
	if exe, err := os.Executable(); err == nil && check.Digest(filepath.Base(exe)) == nil {
		return filepath.Base(exe)
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	sum, err := owned.DigestOf(f, nil)
	if err != nil {
		return ""
	}
	return sum
})
