package plan

import (
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
	"bellhop/internal/host/state"
)

// The small units that stay behind on a host. Each line was tried on real hosts; the two that
// surprise: DefaultDependencies=no, without which a gated socket makes an ordering cycle and
// systemd deletes a job of boot to break it; and no Before=systemd-sysusers.service in the
// settle unit, which is a loop as soon as LVM or a mount below /var is in the way.
const (
	keyMount = `[Unit]
Description=Keys, in RAM only
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
[Mount]
What=ramfs
Where=/run/keys
Type=ramfs
Options=nosuid,nodev,noexec,mode=0750
`
	settleUnit = `[Unit]
Description=Finish or undo a deploy that was cut off
DefaultDependencies=no
ConditionPathExists=/var/lib/bellhop/journal
RequiresMountsFor=/var/lib/bellhop /etc
After=local-fs.target systemd-journald.socket
Before=systemd-tmpfiles-setup.service sysinit.target network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
[Service]
Type=oneshot
ExecStart=HELPER settle
TimeoutStartSec=60
[Install]
WantedBy=sysinit.target
`
)

// unitDir is where bellhop's own units go: on NixOS /etc/systemd/system can't be written.
func unitDir(m state.Dir) string {
	if m.NixOS() {
		return bundle.RunUnitDir
	}
	return bundle.UnitDir
}

// A desire is what shall stand at a path, and its name as triggers have it.
type desire struct {
	owned.Entry
	size    int64  // of a file, bytes
	service string // whose it is; "" for bellhop's own
	trigger string // "file:/etc/x", "package:withinbot", "system:run-keys.mount"
}

// desires lists every path that the manifest asks for, with bellhop's own units among them,
// whose bytes come back in own.
func desires(m state.Dir, b *bundle.Manifest) (paths map[string]desire, own map[string][]byte) {
	paths, own = map[string]desire{}, map[string][]byte{}
	for _, f := range b.Files {
		paths[f.Path] = desire{owned.Entry{Kind: owned.File, Digest: f.Digest, Mode: f.Mode, User: f.User, Group: f.Group}, f.Size, f.Service, bundle.KindFile + ":" + f.Path}
	}

	for _, l := range b.Links {
		paths[l.Path] = desire{owned.LinkTo(l.Target), 0, l.Service, bundle.KindLink + ":" + l.Path}
	}

	for _, p := range b.Packages {
		target := strings.TrimPrefix(bundle.StoreDir, bundle.PackageDir+"/") + "/" + packages.Name(p)
		paths[bundle.PackageDir+"/"+p.Name] = desire{owned.LinkTo(target), 0, p.Service, bundle.KindPackage + ":" + p.Name}
	}

	if b.Empty() {
		return paths, own
	}

	unit := func(name, text string) {
		p := unitDir(m) + "/" + name
		t := owned.Entry{Kind: owned.File, Digest: bundle.DigestBytes([]byte(text)), Mode: 0o644, User: "root", Group: "root"}
		paths[p], own[t.Digest] = desire{t, int64(len(text)), "", bundle.KindSystem + ":" + name}, []byte(text)
	}

	if !m.NixOS() { // where no unit of bellhop's outlives a boot: the system has it, or the next contact settles
		unit(bundle.SettleUnit, strings.Replace(settleUnit, "HELPER", m.Helper, 1))
		wants := unitDir(m) + "/sysinit.target.wants/" + bundle.SettleUnit
		paths[wants] = desire{owned.LinkTo(unitDir(m) + "/" + bundle.SettleUnit), 0, "", bundle.KindSystem + ":" + bundle.SettleUnit}
	}
	if len(b.Keys) > 0 {
		unit(bundle.KeyMountUnit, keyMount)
	}

	return paths, own
}
