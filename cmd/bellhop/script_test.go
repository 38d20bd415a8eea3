package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"

	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/lab"
	"bellhop/internal/lab/port"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bellhop": main})
}

// TestScript runs whole-program stories. They say what a person types and what answers.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[labKey{}] = map[string]labHost{}
			env.Values[notifyKey{}] = new(notifySocket)
			env.Values[forgeKey{}] = map[string]*fakeforge.Forge{}
			env.Values[sinkKey{}] = &sink{more: make(chan struct{}, 100)}
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("XDG_CONFIG_HOME", "")
			env.Setenv("USER", "cadey")
			env.Setenv("NO_COLOR", "1")
			env.Setenv("TMPDIR", env.WorkDir+"/.tmp")
			env.Setenv("BELLHOP_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("GIT_CONFIG_GLOBAL", env.WorkDir+"/home/.gitconfig")
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			if err := os.MkdirAll(env.WorkDir+"/home", 0o700); err != nil {
				return err
			}
			return os.WriteFile(env.WorkDir+"/home/.gitconfig", []byte("[user]\n\tname = Cadey\n\temail = cadey@example.com\n[init]\n\tdefaultBranch = main\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     cmdExits,
			"eventual":  cmdEventual,
			"freeport":  cmdFreePort,
			"deliver":   cmdDeliver,
			"flood":     cmdFlood,
			"count":     cmdCount,
			"json":      cmdJSON,
			"perm":      cmdPerm,
			"hidden":    cmdHidden,
			"hosts":     cmdHosts,
			"fleet":     cmdFleet,
			"unit":      cmdUnit,
			"onhost":    cmdOnHost,
			"sabotage":  cmdSabotage,
			"cut":       cmdCut,
			"sessions":  cmdSessions,
			"notified":  cmdNotified,
			"remote":    cmdRemote,
			"state":     cmdState,
			"sink":      cmdSink,
			"heard":     cmdHeard,
			"fakeforge": cmdFakeForge, "told": cmdTold, "request": cmdRequest, "commented": cmdCommented,
			"agree": cmdAgree, "hooked": cmdHooked,
		},
	})
}

// exits CODE PROGRAM ARGS...: run it, and want that exit code.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// eventual REGEXP PROGRAM ARGS...: run it until its stdout matches.
func cmdEventual(ts *testscript.TestScript, neg bool, args []string) {
	want := regexp.MustCompile(args[0])
	var out string
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out = ts.ReadFile("stdout")
		if err == nil && want.MatchString(out) != neg {
			return
		}
		out += ts.ReadFile("stderr")
	}
	ts.Fatalf("%s: never matched %s; last:\n%s", strings.Join(args[1:], " "), args[0], out)
}

// state: make the state directory, as the first start of a server does.
func cmdState(ts *testscript.TestScript, _ bool, _ []string) {
	_, err := newState(ts.Getenv("BELLHOP_STATE_DIR")).prepare(true)
	ts.Check(err)
}

// freeport NAME...: set variables to addresses that nobody listens on, and that are nobody else's until the script ends.
func cmdFreePort(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		addr, release, err := port.Reserve()
		ts.Check(err)
		ts.Defer(release)
		ts.Setenv(name, addr)
	}
}

// remote TOKEN DIR: serve a repo with the files below DIR over https to who has the token, at $REMOTE.
// Its certificate stands in ca.pem.
func cmdRemote(ts *testscript.TestScript, _ bool, args []string) {
	rem := lab.NewRemote(ts.MkAbs("remote.git"))
	rem.Token = args[0]
	files := map[string]string{}
	dir := ts.MkAbs(args[1])
	ts.Check(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(p)
		return err
	}))
	rem.Commit(files, "first", "Cadey")
	s := httptest.NewTLSServer(rem)
	ts.Defer(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o644))
	ts.Setenv("REMOTE", s.URL)
}

// A notifySocket is where systemd hears how a service does; see sd_notify(3).
type notifySocket struct{ conn *net.UnixConn }

type notifyKey struct{}

// notified: listen as systemd does, and say where. notified STATE: hear it next.
func cmdNotified(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(notifyKey{}).(*notifySocket)
	if len(args) == 0 {
		dir, err := os.MkdirTemp("", "notify") // the path of a socket is short
		ts.Check(err)
		ts.Defer(func() { os.RemoveAll(dir) })
		at := net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
		s.conn, err = net.ListenUnixgram("unixgram", &at)
		ts.Check(err)
		ts.Defer(func() { s.conn.Close() })
		ts.Setenv("NOTIFY_SOCKET", at.Name)
		return
	}
	heard := make([]byte, 100)
	ts.Check(s.conn.SetReadDeadline(time.Now().Add(2 * time.Minute)))
	n, err := s.conn.Read(heard)
	ts.Check(err)
	if got := string(heard[:n]); got != args[0] {
		ts.Fatalf("systemd heard %q, want %q", got, args[0])
	}
}

// deliver ADDR SECRETFILE REF CODE: send a push delivery as GitHub does, and want the code.
func cmdDeliver(ts *testscript.TestScript, _ bool, args []string) {
	secret := strings.TrimSuffix(ts.ReadFile(args[1]), "\n")
	code, answer, err := post(args[0], secret, args[2], fmt.Sprintf("%x", time.Now().UnixNano()))
	ts.Check(err)
	ts.Logf("%d %s", code, answer)
	if fmt.Sprint(code) != args[3] {
		ts.Fatalf("POST /v1/webhook for %s: %d, want %s", args[2], code, args[3])
	}
}

func post(addr, secret, ref, id string) (code int, answer string, err error) {
	body := fmt.Sprintf(`{"ref":%q,"after":"0123456789012345678901234567890123456789","repository":{"full_name":"cadey/config","clone_url":"x"}}`, ref)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	req, err := http.NewRequest("POST", "http://"+addr+"/v1/webhook", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", id)
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(p)), err
}

// flood ADDR SECRETFILE REF N: send that many deliveries at once, and want 202 for each.
func cmdFlood(ts *testscript.TestScript, _ bool, args []string) {
	secret := strings.TrimSuffix(ts.ReadFile(args[1]), "\n")
	n, err := strconv.Atoi(args[3])
	ts.Check(err)
	var all errgroup.Group
	for i := range n {
		all.Go(func() error {
			code, answer, err := post(args[0], secret, args[2], fmt.Sprint("flood-", i))
			if err == nil && code != http.StatusAccepted {
				err = fmt.Errorf("delivery %d: %d %s", i, code, answer)
			}
			return err
		})
	}
	ts.Check(all.Wait())
}

// count FILE FIELD MIN MAX: how long a list is.
func cmdCount(ts *testscript.TestScript, _ bool, args []string) {
	var top map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &top))
	var l []json.RawMessage
	ts.Check(json.Unmarshal(top[args[1]], &l))
	var least, most int
	fmt.Sscan(args[2], &least)
	fmt.Sscan(args[3], &most)
	if n := len(l); n < least || n > most {
		ts.Fatalf("%s has %d, want %d to %d", args[1], n, least, most)
	}
}

// json FILE PATH WANT: the value at a path like hosts.0.name.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	for _, step := range strings.Split(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = at[step]; !ok {
				ts.Fatalf("%s: no %q in %v", args[1], step, at)
			}
		case []any:
			var i int
			fmt.Sscan(step, &i)
			if i >= len(at) {
				ts.Fatalf("%s: only %d elements", args[1], len(at))
			}
			v = at[i]
		default:
			ts.Fatalf("%s: nothing below %v", args[1], v)
		}
	}
	got, _ := json.Marshal(v)
	if s, ok := v.(string); ok {
		got = []byte(s)
	}
	if (string(got) == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	}
}

// perm MODE FILE: want a file's permission bits.
func cmdPerm(ts *testscript.TestScript, _ bool, args []string) {
	fi, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", fi.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[0])
	}
}

// hidden TEXT DIR: want no file below DIR to hold TEXT.
func cmdHidden(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(args[0])) {
			return fmt.Errorf("%s holds the secret", path)
		}
		return err
	}))
}
