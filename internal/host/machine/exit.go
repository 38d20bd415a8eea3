package machine

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Exit is how a program of a unit ended.
type Exit struct {
	Status int    // that it returned
	Signal int    // that killed it; 0 when none did
	Line   string // of the unit file that it is from, such as ExecStartPre; "" is ExecStart
}

// String names it as systemctl does: status=203/EXEC, signal=KILL.
func (e Exit) String() string {
	text := fmt.Sprintf("status=%d", e.Status)
	switch name := exits[e.Status].name; {
	case e.Signal != 0:
		text = "signal=" + signalName(e.Signal)
	case name != "":
		text += "/" + name
	}

	if e.Line != "" {
		text += " of " + e.Line
	}
	return text
}

func signalName(n int) string {
	if name := unix.SignalName(syscall.Signal(n)); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return fmt.Sprint(n)
}

// Ended says how a unit ended, and what that means where it is known: "exit-code,
// status=203/EXEC): its program …", for after "(".
func (s UnitState) Ended() string {
	text, means := s.Result+")", results[s.Result]
	if s.Exit != (Exit{}) {
		text = s.Result + ", " + s.Exit.String() + ")"
	}
	if s.Exit.Signal == 0 && means == "" {
		means = exits[s.Exit.Status].means
	}
	if means != "" {
		text += ": " + means
	}

	return text
}

// results say what a Result means that speaks of no exit.
var results = map[string]string{
	"oom-kill":        "the host had no memory left for it",
	"protocol":        "it did not tell systemd that it is ready, as its Type= asks",
	"resources":       "systemd could not get what it needs for it, such as a port that another has; bellhop logs tells what",
	"start-limit-hit": "it was started too often in a short time",
	"timeout":         "it took longer than its TimeoutStartSec=, TimeoutStopSec= or RuntimeMaxSec= allows",
	"watchdog":        "it was silent for longer than WatchdogSec=",
}

// exits are those that systemd itself gives when it can't start a program, and their names;
// see systemd.exec(5), "Process Exit Codes". What most people meet has a meaning.
var exits = map[int]struct{ name, means string }{
	1: {"FAILURE", ""}, 2: {"INVALIDARGUMENT", ""}, 3: {"NOTIMPLEMENTED", ""}, 4: {"NOPERMISSION", ""}, 5: {"NOTINSTALLED", ""},
	6: {"NOTCONFIGURED", ""}, 7: {"NOTRUNNING", ""},
	200: {"CHDIR", "its WorkingDirectory= is not there, or its user may not enter it"},
	201: {"NICE", ""}, 202: {"FDS", ""},
	203: {"EXEC", "its program is not there, or can't be executed (mode, architecture, #! line, noexec)"},
	204: {"MEMORY", ""}, 205: {"LIMITS", ""}, 206: {"OOM_ADJUST", ""}, 207: {"SIGNAL_MASK", ""}, 208: {"STDIN", "what StandardInput= names can't be opened"},
	209: {"STDOUT", "what StandardOutput= names can't be opened"}, 210: {"CHROOT", "its RootDirectory= can't be entered"},
	211: {"IOPRIO", ""}, 212: {"TIMERSLACK", ""}, 213: {"SECUREBITS", ""}, 214: {"SETSCHEDULER", ""}, 215: {"CPUAFFINITY", ""},
	216: {"GROUP", "its Group= or one of its SupplementaryGroups= does not exist"},
	217: {"USER", "its User= does not exist"},
	218: {"CAPABILITIES", ""}, 219: {"CGROUP", ""}, 220: {"SETSID", ""}, 221: {"CONFIRM", ""},
	222: {"STDERR", "what StandardError= names can't be opened"}, 224: {"PAM", "PAM opened no session for it (PAMName=)"},
	225: {"NETWORK", "its network namespace can't be made"},
	226: {"NAMESPACE", "its view of the files can't be made: a path of ReadWritePaths=, BindPaths= or the like is not there"},
	227: {"NO_NEW_PRIVILEGES", ""}, 228: {"SECCOMP", "its SystemCallFilter= can't be applied"}, 229: {"SELINUX_CONTEXT", ""},
	230: {"PERSONALITY", ""}, 231: {"APPARMOR_PROFILE", ""}, 232: {"ADDRESS_FAMILIES", ""},
	233: {"RUNTIME_DIRECTORY", "its RuntimeDirectory= can't be made"}, 235: {"CHOWN", ""}, 236: {"SMACK_PROCESS_LABEL", ""},
	237: {"KEYRING", ""}, 238: {"STATE_DIRECTORY", "its StateDirectory= can't be made"}, 239: {"CACHE_DIRECTORY", "its CacheDirectory= can't be made"},
	240: {"LOGS_DIRECTORY", "its LogsDirectory= can't be made"}, 241: {"CONFIGURATION_DIRECTORY", "its ConfigurationDirectory= can't be made"},
	242: {"NUMA_POLICY", ""}, 243: {"CREDENTIALS", "a credential that its unit file loads can't be had"}, 245: {"BPF", ""},
}
