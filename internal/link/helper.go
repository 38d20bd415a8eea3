package link

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// The helper lies in the first of these folders where a program can run, under its digest.
// Beside it "current" is a link to the newest, which the host's own units call.
//
// The two lines below are the only ones that bellhop ever runs to get there. They are for
// any POSIX sh; no quote, exclamation mark, newline or doubled backslash is in them, so
// that csh and fish as login shells pass them on unread. Their only variable is a digest,
// 64 hex digits.
const (
	folders = "/usr/local/libexec/bellhop /opt/bellhop/.bin /var/lib/bellhop/bin"

	// A helper that can't be executed (126, 127: noexec, wrong architecture) is as good as
	// none, and so is an empty file, which a power cut may leave. It runs as a child, since a
	// failed exec would end the shell.
	serveScript = `for d in ` + folders + `; do h=$d/DIGEST; [ -s $h ] || continue; ` +
		`[ $d/current -ef $h ] || { ln -s DIGEST $d/.current.$$ && mv -f $d/.current.$$ $d/current; } 2>/dev/null; ` +
		`$h host-helper SERVE; c=$?; [ $c -eq 126 ] || [ $c -eq 127 ] || exit $c; done; ` +
		`printf "\000bellhop-need %s %s\n" "$(uname -s)" "$(uname -m)"`

	// Where programs may run is tried before the only copy of stdin is spent. A copy that was
	// cut short has another digest. The newest other helper is kept, for a deployer that goes
	// back to it.
	uploadScript = `umask 077; for d in ` + folders + `; do t=$d/.new.$$; ` +
		`case $d in /var/*) mkdir -p $d;; *) (umask 022; mkdir -p $d);; esac 2>/dev/null || continue; ` +
		`{ printf "exit 0\n" >$t && chmod 755 $t && $t; } 2>/dev/null || { rm -f $t 2>/dev/null; continue; }; ` +
		`cat >$t || { rm -f $t; printf "\000bellhop-fail write %s\n" $d; exit 1; }; ` +
		`[ "$(sha256sum <$t)" = "DIGEST  -" ] || { rm -f $t; printf "\000bellhop-fail digest %s\n" $d; exit 1; }; ` +
		`chmod 755 $t; $t host-helper version >/dev/null || { rm -f $t; printf "\000bellhop-fail run %s\n" $d; exit 1; }; ` +
		`sync $t 2>/dev/null; mv -f $t $d/DIGEST; restorecon $d/DIGEST 2>/dev/null; ` +
		`ln -s DIGEST $d/.current.$$ && mv -f $d/.current.$$ $d/current; ` +
		`ls -t $d | grep -v DIGEST | grep -E "^[0-9a-f]{64}$" | tail -n +2 | while read f; do rm -f $d/$f; done; ` +
		`printf "\000bellhop-done %s\n" $d; exit 0; done; printf "\000bellhop-fail noexec everywhere\n"; exit 1`

	greetTimeout  = 30 * time.Second // from exec to the helper's first word
	uploadTimeout = 10 * time.Minute
)

const noDigest = "0000000000000000000000000000000000000000000000000000000000000000"

// HelperFolders are where the helper may lie on a host, in the order that they are tried.
func HelperFolders() []string { return strings.Fields(folders) }

// ServeLine is the line that runs the helper with this digest, or says that it is not there.
// ahead: the helper is spoken to first.
func ServeLine(digest string, sudo, ahead bool) string {
	verb := "serve"
	if ahead {
		verb = "serve ahead"
	}

	return ShellLine(strings.NewReplacer("DIGEST", digest, "SERVE", verb).Replace(serveScript), sudo)
}

// serveLine is ServeLine, made once for a fleet.
func serveLine(digest string, sudo, ahead bool) string {
	type serve struct {
		digest      string
		sudo, ahead bool
	}

	key := serve{digest, sudo, ahead}
	if line, ok := serveLines.Load(key); ok {
		return line.(string)
	}

	line, _ := serveLines.LoadOrStore(key, ServeLine(digest, sudo, ahead))
	return line.(string)
}

var serveLines sync.Map // few: a digest for each architecture

// UploadLine is the line that takes the helper with this digest from stdin.
func UploadLine(digest string, sudo bool) string {
	return ShellLine(strings.ReplaceAll(uploadScript, "DIGEST", digest), sudo)
}

var digestPattern = regexp.MustCompile(`/([0-9a-f]{64})[; ]`)

// ParseLine recognises ServeLine ("serve", "ahead") and UploadLine ("upload"), for a host that
// answers them without a shell. Any other line is "".
func ParseLine(line string) (verb, digest string) {
	m := digestPattern.FindStringSubmatch(line)
	if m == nil {
		return "", ""
	}

	for _, sudo := range []bool{false, true} {
		switch line {
		case ServeLine(m[1], sudo, false):
			return "serve", m[1]
		case ServeLine(m[1], sudo, true):
			return "ahead", m[1]
		case UploadLine(m[1], sudo):
			return "upload", m[1]
		}
	}

	return "", ""
}

// Helper starts the helper on t, as root, and puts it there first when it is missing. The
// session's first bytes are bundle.Magic: what a login shell printed is skipped. The session
// ends with ctx.
//
// Where ahead is not nil it writes what the helper is to read first, which saves a round trip; it
// is called once for each try to start the helper. From its call on an error does not say whether
// the helper heard it, unless it is ErrNotBegun, which the host's own word proves.
func (p *Pool) Helper(ctx context.Context, t Target, ahead func(io.Writer) error) (*Session, error) {
	arch := cmp.Or(p.Arch(t.Name), t.Arch, runtime.GOARCH)
	_, digest, err := p.cfg.Helper("linux", arch)
	if err != nil {
		digest = noDigest // the host says first what it is
	}

	uploaded := false
	for i := range 4 {
		spoken := false
		first := ahead
		if ahead != nil {
			first = func(w io.Writer) error { spoken = true; return ahead(w) }
		}
		s, g, err := p.tryHelper(ctx, t, digest, first)
		if err != nil && i > 0 && !spoken {
			err = notBegun{err}
		}
		if err != nil {
			return nil, err
		}
		if g.kind == "magic" {
			p.Learn(t.Name, arch)
			return s, nil
		}
		if uploaded {
			return nil, notBegun{&Error{t.Name, ErrHelper, errors.New("it was put there and does not run")}}
		}
		if arch, err = GoArch(g.text); err != nil {
			return nil, notBegun{&Error{t.Name, ErrHelper, err}}
		}
		path, right, err := p.cfg.Helper("linux", arch)
		if err != nil {
			return nil, notBegun{&Error{t.Name, ErrHelper, err}}
		}
		if right != digest { // another architecture than was thought: it may be there already
			digest = right
			continue
		}
		if err := p.upload(ctx, t, path, digest); err != nil {
			return nil, notBegun{err}
		}
		p.Learn(t.Name, arch)
		uploaded = true
	}

	return nil, notBegun{&Error{t.Name, ErrHelper, errors.New("the host tells another architecture each time")}}
}

// there is an error of a host that lets us in.
type there struct{ error }

func (e there) Unwrap() error        { return e.error }
func (e there) Is(target error) bool { return target == ErrThere }

// notBegun is an error of a helper that did not begin, by the word of its host.
type notBegun struct{ error }

func (e notBegun) Unwrap() error        { return e.error }
func (e notBegun) Is(target error) bool { return target == ErrNotBegun }

// Arch is the architecture that a host has given, as Go names it; "" when it has not yet.
func (p *Pool) Arch(host string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[host]; e != nil {
		return e.arch
	}

	return ""
}

// Learn keeps the architecture of a host, as Go names it, for when its helper is started.
func (p *Pool) Learn(host, arch string) {
	e := p.entry(host)
	p.mu.Lock()
	defer p.mu.Unlock()
	e.arch = arch
}

// tryHelper runs the serve line and reads its first word. The session is open only when
// that word is the helper's.
func (p *Pool) tryHelper(ctx context.Context, t Target, digest string, ahead func(io.Writer) error) (*Session, greeting, error) {
	// A host that ran a helper before will run this one too: its word for it is not waited for.
	trust := ahead != nil && p.Arch(t.Name) != ""
	s, err := p.begin(ctx, t, command{line: serveLine(digest, t.sudo(), ahead != nil), trust: trust}, nil)
	if errors.Is(err, ErrLost) { // the helper does nothing before it is asked to
		err = &Error{t.Name, ErrUnreachable, err.(*Error).Err}
	}
	if err != nil {
		return nil, greeting{}, err
	}

	if ahead != nil {
		if err := ahead(s); err != nil {
			s.Close()
			return nil, greeting{}, err
		}
	}

	g, err := s.greet(ctx, t)
	if err != nil || g.kind != "magic" {
		s.Close()
	}

	return s, g, err
}

// greet reads up to the first word that is meant for us.
func (s *Session) greet(ctx context.Context, t Target) (greeting, error) {
	var late atomic.Bool
	limit := time.AfterFunc(greetTimeout, func() { late.Store(true); s.abort() })
	defer limit.Stop()
	seen := make([]byte, 0, 1<<10)
	for {
		seen = slices.Grow(seen, 512)
		n, err := s.ch.Read(seen[len(seen):cap(seen)])
		seen = seen[:len(seen)+n]
		if g, ok := parseGreeting(seen); ok {
			s.ahead = g.rest
			return g, nil
		}
		if err == nil && len(seen) < bundle.MaxNoise {
			continue
		}
		if late.Load() && ctx.Err() == nil {
			return greeting{}, tooLate(t, append(seen, s.Stderr()...))
		}
		return greeting{}, s.silence(ctx, t, seen, err)
	}
}

// tooLate is a shell that neither runs the helper nor ends. One that said nothing at all may be
// that of a host which is very slow.
func tooLate(t Target, said []byte) error {
	if len(said) == 0 {
		return &Error{t.Name, ErrUnreachable, there{fmt.Errorf("it took the command and said nothing in %v: does the login shell of %s wait for its input, or a ForceCommand?", greetTimeout, t.user())}}
	}

	return &Error{t.Name, ErrHelper, plain.Quoted(said, "the login shell of %s, or a ForceCommand, does not run the helper and does not end; it said", t.user())}
}

// silence says why no helper spoke.
func (s *Session) silence(ctx context.Context, t Target, seen []byte, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return &Error{t.Name, ErrHelper, plain.Quoted(seen, "the login shell prints without end")}
	}

	code, err := s.Wait()
	if err != nil {
		return &Error{t.Name, ErrUnreachable, fmt.Errorf("before the helper spoke: %w", err)}
	}

	said := s.Stderr()
	if t.sudo() {
		if why := SudoRefusal(said); why != nil {
			return &Error{t.Name, ErrSudo, why}
		}
	}

	if _, own, ok := strings.Cut("\n"+said, "\nbellhop-host: "); ok { // it ran, and says itself what is wrong
		return &Error{t.Name, ErrHelper, plain.Quoted([]byte(own), "it can't begin")}
	}

	if len(seen) == 0 && said == "" {
		// So does a host that is going down or not up yet; nothing has happened there.
		return &Error{t.Name, ErrUnreachable, there{fmt.Errorf("the login shell of %s ended with status %d and said nothing: is it one that runs commands, and no ForceCommand set?", t.user(), code)}}
	}

	return &Error{t.Name, ErrHelper, plain.Quoted(append(seen, said...), "the login shell of %s, or a ForceCommand, ended with status %d", t.user(), code)}
}

// A greeting is the first word from the host: "magic", "need", "done" or "fail".
type greeting struct {
	kind string
	text string // after the word, to the end of its line: for comparing, never shown
	rest []byte // with kind "magic": from bundle.Magic on
}

var words = []struct{ kind, mark string }{
	{"need", "\x00bellhop-need "},
	{"done", "\x00bellhop-done "},
	{"fail", "\x00bellhop-fail "},
}

// parseGreeting looks for the first whole word in what has come so far.
func parseGreeting(seen []byte) (greeting, bool) {
	for from := 0; ; {
		i := bytes.IndexByte(seen[from:], 0)
		if i < 0 {
			return greeting{}, false
		}
		at := seen[from+i:]
		if bytes.HasPrefix(at, []byte(bundle.Magic)) {
			return greeting{kind: "magic", rest: at}, true
		}
		for _, w := range words {
			if text, ok := bytes.CutPrefix(at, []byte(w.mark)); ok {
				if end := bytes.IndexByte(text, '\n'); end >= 0 {
					return greeting{kind: w.kind, text: string(text[:min(end, 200)])}, true
				}
			}
		}
		from += i + 1
	}
}

// upload sends the helper at path.
func (p *Pool) upload(ctx context.Context, t Target, path, digest string) error {
	f, err := os.Open(path)
	if err != nil {
		return &Error{t.Name, ErrHelper, err}
	}
	defer f.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, uploadTimeout, fmt.Errorf("the helper was not sent in %v", uploadTimeout))
	defer cancel()
	s, err := p.begin(ctx, t, command{line: UploadLine(digest, t.sudo())}, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	p.entry(t.Name).n.uploads.Add(1)
	p.cfg.Log.Info("helper sent", "host", t.Name, "digest", digest[:12])
	go s.feed(f)
	said, err := io.ReadAll(io.LimitReader(s, bundle.MaxNoise))
	if err != nil {
		return err
	}

	g, _ := parseGreeting(said)
	if g.kind == "done" {
		return nil
	}

	if _, err := s.Wait(); err != nil { // stderr is whole then
		return err
	}

	if why := SudoRefusal(s.Stderr()); t.sudo() && why != nil {
		return &Error{t.Name, ErrSudo, why}
	}

	return &Error{t.Name, ErrHelper, uploadFailure(g, s.Stderr(), said)}
}

func uploadFailure(g greeting, stderr string, said []byte) error {
	what, folder, _ := strings.Cut(g.text, " ")
	switch {
	case g.kind != "fail":
		return plain.Quoted(append(said, stderr...), "it could not be put there")
	case what == "write":
		return plain.Quoted([]byte(stderr), "write to %s", ownFolder(folder))
	case what == "digest":
		return plain.Quoted([]byte(stderr), "what arrived in %s is not what was sent", ownFolder(folder))
	case what == "run":
		return plain.Quoted([]byte(stderr), "it does not run in %s", ownFolder(folder))
	default:
		return fmt.Errorf("no program can run in any of %s: each is read-only or mounted noexec", strings.Join(HelperFolders(), ", "))
	}
}

// ownFolder is the folder of ours that the host named.
func ownFolder(named string) string {
	for _, f := range HelperFolders() {
		if f == named {
			return f
		}
	}

	return "its folder"
}

// GoArch turns "Linux x86_64", as uname says it, into what Go calls it. The error says that there is
// no helper for such a machine, and quotes it.
func GoArch(uname string) (string, error) {
	system, machine, _ := strings.Cut(uname, " ")
	if system != "Linux" {
		return "", plain.Quoted([]byte(system), "only Linux with systemd will do, and the host runs")
	}

	switch machine {
	case "x86_64", "amd64":
		return "amd64", nil
	case "aarch64", "arm64":
		return "arm64", nil
	case "armv6l", "armv7l", "armv8l":
		return "arm", nil
	case "i386", "i486", "i586", "i686":
		return "386", nil
	case "riscv64", "ppc64le", "s390x":
		return machine, nil
	case "loongarch64":
		return "loong64", nil
	}

	return "", plain.Quoted([]byte(machine), "there is no helper for the host's machine")
}
