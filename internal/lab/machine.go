package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/usersystemd"
	"bellhop/internal/lab/systemd"
)

// A Machine is a host in a directory. Its methods are what a person, or fate, does to it;
// the engine sees it through Host.
type Machine struct {
	dir  string
	host *machine.Machine

	fsyncs atomic.Int64

	mu      sync.Mutex
	boot    string
	version int
	failing map[string]bool // start fails
	ports   map[string]int  // what a unit listens on
	systemd *systemd.Systemd

	health
	commands
	nixos

	apply *applyUnit

	users  map[string]machine.Account
	joined map[string][]string // groups beside the primary one, by user
	groups map[string]int
	owners map[inode]owner
	lacks  map[string]bool // commands that are not on the PATH
	// what runs as a user, and belongs to no unit of the twin
	strangers map[string][]machine.Process

	mounted   bool
	keyKind   string // what Keys says: ramfs, tmpfs, or "" for refused
	swapClear bool
	secret    []byte // of sealed copies
}

// An Event is something that really happened to a unit: start, stop, restart, reload, fail.
type Event = systemd.Event

// NewMachine makes a host in dir, switched on. It panics if dir can't be written: a lab
// without a floor is no use to any test.
func NewMachine(dir string) *Machine {
	m := &Machine{
		dir: dir, version: 252, failing: map[string]bool{},
		ports: map[string]int{}, users: map[string]machine.Account{}, groups: map[string]int{}, owners: map[inode]owner{},
		lacks: map[string]bool{}, strangers: map[string][]machine.Process{}, keyKind: "ramfs", secret: randomBytes(32), boot: newBootID(),
	}
	for _, d := range []string{"etc/systemd/system", "usr/lib/systemd/system", "run", "var/lib", "opt", "srv", "tmp", "usr/local/libexec"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			panic(fmt.Sprintf("lab: make machine: %v", err))
		}
	}

	m.nixos.m = m
	m.health.reset()
	m.systemd = systemd.New(dir, m.exec, m.unmountKeys)
	m.addAccounts()
	m.host = &machine.Machine{
		Polls: true, Root: dir, Systemd: usersystemd.New(twinSystemd{m, m.systemd}, twinSystemd{m, m.systemd}), Accounts: twinAccounts{m}, Mounts: twinMounts{m},
		Clock:  time.Now,
		BootID: func() (string, error) { return m.BootID(), nil },
		Helper: "/usr/local/libexec/bellhop/current",
		Disk:   countedDisk{n: &m.fsyncs},
		Prober: twinProber{&m.health}, Journal: twinJournal{&m.health}, Commands: twinCommands{m},
		Settle: 10 * time.Millisecond, // nothing of the twin dies later, unless DieAfter says so
	}
	m.mu.Lock()
	m.systemd.StartTargets()
	m.mu.Unlock()
	return m
}

// A countedDisk counts what is synced.
type countedDisk struct {
	owned.RealDisk
	n *atomic.Int64
}

func (d countedDisk) Sync(f *os.File) error {
	d.n.Add(1)
	return d.RealDisk.Sync(f)
}

func (d countedDisk) Syncfs(f *os.File) error {
	d.n.Add(1)
	return d.RealDisk.Syncfs(f)
}

// Host is the machine as the engine sees it. A test may set its Reached and Clock.
func (m *Machine) Host() *machine.Machine { return m.host }

// Dir is the directory that stands for the root.
func (m *Machine) Dir() string { return m.dir }

// Path is where a path of the host lies on this computer.
func (m *Machine) Path(p string) string { return filepath.Join(m.dir, p) }

// BootID names the running boot.
func (m *Machine) BootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boot
}

// Fsyncs counts the engine's fsyncs and syncfs since the machine was made.
func (m *Machine) Fsyncs() int { return int(m.fsyncs.Load()) }

// Log lists what happened to units since the machine was made or ClearLog.
func (m *Machine) Log() []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.systemd.Log)
}

// Jobs lists what systemd was asked for, as "restart x.service", in order.
func (m *Machine) Jobs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.systemd.Jobs)
}

// Reloads counts daemon-reloads.
func (m *Machine) Reloads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.systemd.Reloads
}

// ClearLog forgets events, jobs and the counts of reloads and fsyncs.
func (m *Machine) ClearLog() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.systemd.Log, m.systemd.Jobs, m.systemd.Reloads = nil, nil, 0
	m.fsyncs.Store(0)
}

// Count is how often verb (start, stop, restart, reload, fail) happened to a unit.
func (m *Machine) Count(verb, name string) int {
	n := 0
	for _, e := range m.Log() {
		if e == (Event{Verb: verb, Unit: name}) {
			n++
		}
	}
	return n
}

// Starts is how often a unit came up, by a start or a restart.
func (m *Machine) Starts(name string) int { return m.Count("start", name) + m.Count("restart", name) }

// Unit is what systemd says of a unit.
func (m *Machine) Unit(name string) machine.UnitState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state(name)
}

// Active says whether a unit is active.
func (m *Machine) Active(name string) bool { return m.Unit(name).Active == "active" }

// Run starts a process that no unit of bellhop's knows: a login, a job of cron. End ends a user's.
func (m *Machine) Run(user string, p machine.Process) {
	m.set(func() { m.strangers[user] = append(m.strangers[user], p) })
}

// End ends what Run started as a user.
func (m *Machine) End(user string) { m.set(func() { delete(m.strangers, user) }) }

// Fail makes every start of a unit fail, until Mend. It does not touch what runs.
func (m *Machine) Fail(name string) { m.set(func() { m.failing[name] = true }) }

// Flap makes a unit die and come back at each look, as one does that crashes after its
// start, until Mend.
func (m *Machine) Flap(name string) { m.set(func() { m.systemd.Flapping[name] = true }) }

// Mend takes back Fail, Flap and DieAfter.
func (m *Machine) Mend(name string) {
	m.set(func() { delete(m.failing, name); m.systemd.Mend(name) })
}

// Crash ends a running unit as a program does that dies: failed, or started again where its
// Restart= says so.
func (m *Machine) Crash(name string) { m.set(func() { m.systemd.Crash(m.systemd.Canonical(name)) }) }

// Claim makes a unit listen on a port while it runs: a second one on it fails to start.
func (m *Machine) Claim(name string, port int) { m.set(func() { m.ports[name] = port }) }

// Start, Stop and Restart are what a person types on the host.
func (m *Machine) Start(name string) error { return m.byHand("start", name) }

// Stop stops a unit by hand.
func (m *Machine) Stop(name string) error { return m.byHand("stop", name) }

// Restart restarts a unit by hand.
func (m *Machine) Restart(name string) error { return m.byHand("restart", name) }

func (m *Machine) byHand(verb, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.systemd.Transact(verb, []string{name})[name]
}

// Trigger does what a socket, timer or path unit waits for: its service is started.
func (m *Machine) Trigger(activator string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.systemd.IsActive(activator) {
		return fmt.Errorf("%s does not listen", activator)
	}
	name := m.systemd.Triggers(activator)
	return m.systemd.Transact("start", []string{name})[name]
}

// Mask masks a unit by hand, Unmask takes it back.
func (m *Machine) Mask(name string) error {
	p := m.Path(bundle.UnitDir + "/" + name)
	os.Remove(p)
	return m.linkAndReload("/dev/null", p)
}

// Unmask removes a mask.
func (m *Machine) Unmask(name string) error {
	if err := os.Remove(m.Path(bundle.UnitDir + "/" + name)); err != nil {
		return err
	}
	m.set(m.systemd.Reload)
	return nil
}

func (m *Machine) linkAndReload(target, p string) error {
	if err := os.Symlink(target, p); err != nil {
		return err
	}
	m.set(m.systemd.Reload)
	return nil
}

// Plant writes a file as somebody on the host would: parents are made, the owner is root.
func (m *Machine) Plant(path, content string) error {
	p := m.Path(path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p, []byte(content), 0o644)
}

// SetVersion makes systemd say that it is another version.
func (m *Machine) SetVersion(v int) { m.set(func() { m.version = v }) }

// Lack takes a command from the PATH.
func (m *Machine) Lack(command string) { m.set(func() { m.lacks[command] = true }) }

// RefuseRamfs makes the host one that has only tmpfs for keys, as containers do; with clear
// it also swaps unencrypted.
func (m *Machine) RefuseRamfs(clear bool) {
	m.set(func() { m.keyKind, m.swapClear = "tmpfs", clear })
}

// RefuseRAM makes the host one that offers nothing but a disk for keys.
func (m *Machine) RefuseRAM() { m.set(func() { m.keyKind = "" }) }

// LoseSecret replaces what sealed copies are opened with: all of them are dead.
func (m *Machine) LoseSecret() { m.set(func() { m.secret = randomBytes(32) }) }

func (m *Machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// Reboot pulls the plug and switches on again: nothing is stopped in order, /run is emptied,
// the boot id changes. If a run was cut off, settle comes first, as systemd would order it;
// then what is enabled starts through its gates.
func (m *Machine) Reboot() error {
	m.killApply()
	m.mu.Lock()
	m.boot, m.mounted, m.systemd.Booting = newBootID(), false, true
	m.systemd.PowerOff()
	m.commands.powerOff()
	err := emptyDir(m.Path("/run"))
	m.bootSystem()
	settle := m.settles()
	m.mu.Unlock()
	if err != nil {
		return err
	}

	var settled error
	if settle {
		settled = m.settle()
	}

	m.mu.Lock()
	m.systemd.Booting = false
	m.systemd.Generate()
	m.systemd.StartTargets()
	m.systemd.StartQueued()
	m.systemd.StartUsers(func(user string) string { return m.users[user].Home })
	m.systemd.Transact("start", unitNames(m.nixos.systems[m.nixos.boots]))
	late := m.nixos.settles
	m.mu.Unlock()

	if late { // of a NixOS system: it is ordered after all else
		settled = errors.Join(settled, m.settle())
	}
	return settled
}

// settles says that bellhop-settle.service starts when the host boots.
func (m *Machine) settles() bool {
	d := m.systemd.Def(bundle.SettleUnit)
	isEnabled := d.Load == "loaded" && m.systemd.FileState(bundle.SettleUnit) == "enabled"
	return isEnabled && m.systemd.ConditionsHold(d)
}

// settle runs what bellhop-settle.service runs. A test's Reached may end it, as a plug would.
func (m *Machine) settle() error {
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("settle was killed")
		defer func() {
			if p := recover(); p != nil {
				survive(p)
				err = fmt.Errorf("settle was killed: %v", p)
			}
			done <- err
		}()
		err = host.Settle(context.Background(), m.host)
	}()
	return <-done
}

func emptyDir(dir string) error {
	es, err := os.ReadDir(dir)
	for _, e := range es {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return err
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func newBootID() string {
	b := randomBytes(16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
