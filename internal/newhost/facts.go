package newhost

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// What a host must have.
const (
	MinSystemd = 245              // below it the units that bellhop writes do not hold
	sealing    = 250              // systemd-creds, for persist: sealed
	MaxSkew    = 30 * time.Second // beyond it certificates and timers go wrong
)

// Facts are what a look at a host found.
type Facts struct {
	HostKeys []string       // its public keys, the one to pin first
	Arch     string         // as Go names it; "" when it has no helper
	Systemd  int            // version, 0 when there is none
	NixOS    bool           // it is one
	Root     bool           // the login is root, or may be by sudo -n
	Skew     time.Duration  // how far its clock is ahead of ours
	NoExec   []string       // folders for the helper where programs may not run
	KeyAdded bool           // the deployer's key was not there and is now
	KeyThere bool           // the deployer's key is there
	Problems []*plain.Quote // what keeps bellhop from working there, each with what to do
	Notes    []*plain.Quote // what is worth knowing
}

// factsScript prints what Facts is made of, a line for each thing. Its stdin is one line for
// authorized_keys, or empty. As with the helper's lines, nothing in it is variable, and no
// quote, exclamation mark, newline or doubled backslash stands in it.
const factsScript = `umask 077; read -r line; echo "bellhop-facts 1"; ` +
	`echo "uname $(uname -s) $(uname -m)"; echo "time $(date +%s)"; echo "uid $(id -u)"; ` +
	`echo "systemd $(systemctl --version 2>/dev/null | head -n 1)"; if [ -e /etc/NIXOS ]; then echo "nixos yes"; fi; ` +
	`for f in /etc/ssh/ssh_host_*_key.pub; do if [ -r $f ]; then echo "hostkey $(cat $f)"; fi; done; ` +
	`if [ $(id -u) -ne 0 ]; then e=$(LC_ALL=C sudo -n -- true 2>&1) && echo "sudo ok" || echo "sudo no $(echo $e)"; fi; ` +
	`while read -r a b c d e; do echo "mount $b $d"; if [ $b = /run/keys ]; then echo "keys $c"; fi; done </proc/self/mounts; ` +
	`if [ -r /proc/swaps ]; then while read -r a b c; do echo "swap $a"; done </proc/swaps; fi; ` +
	`if [ -n "$line" ]; then set -- $line; f=$HOME/.ssh/authorized_keys; ` +
	`if grep -qF "$3" $f 2>/dev/null; then echo "key there"; else ` +
	`mkdir -p $HOME/.ssh && { if [ -s $f ] && [ -n "$(tail -c 1 $f)" ]; then echo >>$f; fi; } && printf "%s\n" "$line" >>$f && echo "key added" || echo "key failed"; ` +
	`restorecon -R $HOME/.ssh 2>/dev/null; fi; fi; echo "end"`

// LookLine is the command that a login shell runs for a look: factsScript.
var LookLine = link.ShellLine(factsScript, false)

// authorizedLine is how the deployer's key stands on a host. A host may serve as jump, and
// people want a terminal; agents, X11 and user rc stay off.
func authorizedLine(key ssh.PublicKey) string {
	return "restrict,pty,port-forwarding " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " bellhop"
}

// parseFacts reads what factsScript printed; what a login shell printed before is skipped.
// now is our clock at the same moment.
func parseFacts(out []byte, now time.Time) (Facts, error) {
	_, body, ok := bytes.Cut(out, []byte("bellhop-facts 1\n"))
	if !ok {
		return Facts{}, plain.Quoted(out, "the host did not run a plain sh command")
	}

	r := reader{now: now, mounts: map[string]string{}}
	for line := range strings.Lines(string(body)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		r.line(word, rest)
	}
	if !r.ended {
		return Facts{}, plain.Quoted(body, "the host's answer was cut short")
	}

	f := r.facts
	slices.SortStableFunc(f.HostKeys, func(a, b string) int { return keyRank(a) - keyRank(b) })
	f.judge(r.uid, r.sudo, r.mounts)
	f.judgeKeys(r.keys, r.swap)
	return f, nil
}

// A reader reads the answer of a host, line by line.
type reader struct {
	now   time.Time
	facts Facts

	// What is judged when all lines are read.
	uid, sudo, keys, swap string
	mounts                map[string]string // options, by place
	ended                 bool
}

// line reads one line: a word, and what it is about.
func (r *reader) line(word, rest string) {
	f := &r.facts
	switch word {
	case "uname":
		r.uname(rest)
	case "time":
		if sec, err := strconv.ParseInt(rest, 10, 64); err == nil {
			f.Skew = time.Unix(sec, 0).Sub(r.now.Truncate(time.Second))
		}
	case "uid":
		r.uid = rest
	case "systemd":
		f.Systemd = systemdVersion(rest)
	case "nixos":
		f.NixOS = true
	case "hostkey":
		r.hostKey(rest)
	case "sudo":
		r.sudo = rest
	case "mount":
		if where, options, ok := strings.Cut(rest, " "); ok {
			r.mounts[path.Clean(where)] = options // the last one on a place is the one in force
		}
	case "keys":
		r.keys = rest
	case "swap":
		if strings.HasPrefix(rest, "/") && !isHarmlessSwap(rest) {
			r.swap = rest
		}
	case "key":
		r.deployerKey(rest)
	case "end":
		r.ended = true
	}
}

func (r *reader) uname(machine string) {
	arch, err := link.GoArch(machine)
	if err != nil {
		r.facts.Problems = append(r.facts.Problems, asQuote(err))
	}
	r.facts.Arch = arch
}

func (r *reader) hostKey(line string) {
	if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
		r.facts.HostKeys = append(r.facts.HostKeys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))))
	}
}

// deployerKey reads what came of adding the deployer's key.
func (r *reader) deployerKey(what string) {
	r.facts.KeyAdded, r.facts.KeyThere = what == "added", what != "failed"
	if what == "failed" {
		r.facts.Problems = append(r.facts.Problems, &plain.Quote{What: "the deployer's key could not be added to ~/.ssh/authorized_keys"})
	}
}

// isHarmlessSwap says whether what is swapped to a device stays unreadable, as far as its name
// tells: zram is RAM; a mapped device may be encrypted, and the helper looks closer.
func isHarmlessSwap(device string) bool {
	for _, prefix := range []string{"/dev/zram", "/dev/dm-", "/dev/mapper/"} {
		if strings.HasPrefix(device, prefix) {
			return true
		}
	}

	return false
}

// asQuote is err as one.
func asQuote(err error) *plain.Quote {
	if q, ok := err.(*plain.Quote); ok {
		return q
	}

	return &plain.Quote{What: err.Error()}
}

// judgeKeys notes a place for keys that the kernel may write to swap.
func (f *Facts) judgeKeys(kind, swap string) {
	if kind == "" || kind == "ramfs" {
		return // nothing stands there yet, or in RAM for good
	}

	note := &plain.Quote{What: "keys do not stand on a ramfs, which the host refuses, but on", Said: plain.NewForeign(kind)}
	if swap != "" {
		note = &plain.Quote{What: "a key may reach the host's disk: keys do not stand on a ramfs, and it swaps to", Said: plain.NewForeign(swap)}
	}

	f.Notes = append(f.Notes, note)
}

// judge turns what was found into problems and notes.
func (f *Facts) judge(uid, sudo string, mounts map[string]string) {
	problem := func(format string, args ...any) {
		f.Problems = append(f.Problems, &plain.Quote{What: fmt.Sprintf(format, args...)})
	}

	note := func(format string, args ...any) {
		f.Notes = append(f.Notes, &plain.Quote{What: fmt.Sprintf(format, args...)})
	}

	f.Root = uid == "0" || sudo == "ok"
	if !f.Root {
		why := link.SudoRefusal(sudo)
		if why == nil {
			why = plain.Quoted([]byte(sudo), "the login is not root, and sudo -n says")
		}
		f.Problems = append(f.Problems, asQuote(why))
	}

	switch {
	case f.Systemd == 0:
		problem("systemd does not run there")
	case f.Systemd < MinSystemd:
		problem("systemd is %d; at least %d is needed", f.Systemd, MinSystemd)
	case f.Systemd < sealing:
		note("systemd is %d; persist: sealed needs %d", f.Systemd, sealing)
	}

	if f.Skew.Abs() > MaxSkew {
		problem("its clock is %v off; turn on systemd-timesyncd or chrony", f.Skew.Abs())
	}

	if len(f.HostKeys) == 0 {
		problem("no host key could be read from /etc/ssh/ssh_host_*_key.pub")
	}

	all := link.HelperFolders()
	for _, dir := range all {
		if blocked(mounts, dir) {
			f.NoExec = append(f.NoExec, dir)
		}
	}

	if len(f.NoExec) == len(all) {
		problem("no program can run in any of %s: each is read-only or mounted noexec", strings.Join(all, ", "))
	}
}

// blocked says that the mount which holds dir takes or runs no programs.
func blocked(mounts map[string]string, dir string) bool {
	for at := dir; ; at = path.Dir(at) {
		if options, ok := mounts[at]; ok {
			all := strings.Split(options, ",")
			return slices.Contains(all, "noexec") || slices.Contains(all, "ro")
		}
		if at == "/" || at == "." {
			return false
		}
	}
}

// systemdVersion reads "systemd 252 (252.39-1~deb12u1)".
func systemdVersion(line string) int {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "systemd" {
		return 0
	}

	digits := words[1]
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}

	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}

	return n
}

// keyRank puts the key to pin first: ed25519, then ECDSA, then RSA.
func keyRank(line string) int {
	for i, kind := range []string{ssh.KeyAlgoED25519, "ecdsa-", ssh.KeyAlgoRSA} {
		if strings.HasPrefix(line, kind) {
			return i
		}
	}

	return 3
}
