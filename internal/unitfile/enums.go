package unitfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An enum is the set of words that a key takes.
type enum struct {
	words []string       // in the order of the manual
	since map[string]int // of words that came later than OldestSystemd
	bool  bool           // booleans are taken too
	also  func(string) bool
}

func (e *enum) check(value string) *valueError {
	_, isBool := ParseBool(value)
	switch {
	case e.bool && isBool, e.also != nil && e.also(value):
		return nil
	case slices.Contains(e.words, value):
		if n := e.since[value]; n > OldestSystemd {
			return &valueError{reason: fmt.Sprintf("%q needs systemd %d", value, n), since: n}
		}
		return nil
	}

	all := e.words
	if e.bool {
		all = append([]string{"yes", "no"}, all...)
	}

	err := want("want %s", oneOf(all))
	err.among = all
	return err
}

// oneOf is "a, b or c".
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}

	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// words is an enum of words; "word@253" came with systemd 253.
func words(list string) *enum {
	e := &enum{since: map[string]int{}}
	for _, w := range strings.Fields(list) {
		name, version, _ := strings.Cut(w, "@")
		e.words = append(e.words, name)
		e.since[name], _ = strconv.Atoi(version)
	}

	return e
}

func boolOr(list string) *enum {
	e := words(list)
	e.bool = true
	return e
}

// with adds values that are no single word, as "file:/x".
func (e *enum) with(also func(string) bool) *enum {
	e.also = also
	return e
}

func hasPrefix(prefixes ...string) func(string) bool {
	return func(value string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(value, p) })
	}
}

func isNumber(low, high int) func(string) bool {
	return func(value string) bool {
		n, err := strconv.ParseInt(value, 0, 64)
		return err == nil && n >= int64(low) && n <= int64(high)
	}
}

const (
	emergencyActions = "none reboot reboot-force reboot-immediate poweroff poweroff-force poweroff-immediate exit exit-force " +
		"soft-reboot@254 soft-reboot-force@254 kexec@254 kexec-force@254 halt@254 halt-force@254 halt-immediate@254"
	jobModes   = "fail lenient@257 replace replace-irreversibly isolate flush ignore-dependencies ignore-requirements triggering restart-dependencies"
	outputs    = "inherit null tty journal journal+console kmsg kmsg+console syslog syslog+console socket fd"
	levels     = "emerg alert crit err warning notice info debug"
	facilities = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp local0 local1 local2 local3 local4 local5 local6 local7"
)

// enums are the keys with a closed set of values, by key or by section and key.
var enums = map[string]*enum{
	"Service.Type":            words("simple exec forking oneshot dbus notify notify-reload@253 idle"),
	"ExitType":                words("main cgroup"),
	"Restart":                 words("no on-success on-failure on-abnormal on-watchdog on-abort always"),
	"RestartMode":             words("normal direct debug@257"),
	"NotifyAccess":            words("none main exec all"),
	"TimeoutStartFailureMode": words("terminate abort kill"),
	"TimeoutStopFailureMode":  words("terminate abort kill"),
	"OOMPolicy":               words("continue stop kill"),
	"KillMode":                words("control-group mixed process none"),
	"StandardInput":           words("null tty tty-force tty-fail data socket fd").with(hasPrefix("file:/", "fd:")),
	"StandardOutput":          words(outputs).with(hasPrefix("file:/", "append:/", "truncate:/", "fd:")),
	"StandardError":           words(outputs).with(hasPrefix("file:/", "append:/", "truncate:/", "fd:")),
	"ProtectSystem":           boolOr("full strict"),
	"ProtectHome":             boolOr("read-only tmpfs"),
	"ProtectProc":             words("noaccess invisible ptraceable default"),
	"ProcSubset":              words("all pid"),
	"ProtectControlGroups":    boolOr("private@257 strict@257"),
	"ProtectHostname":         boolOr("private@258").with(hasPrefix("yes:", "private:")),
	"PrivateTmp":              boolOr("disconnected@257"),
	"PrivateUsers":            boolOr("self@257 identity@257 full@258 managed@258"),
	"PrivateMounts":           boolOr(""),
	"PrivatePIDs":             boolOr(""),
	"MountAPIVFS":             boolOr(""),
	"MemoryKSM":               boolOr(""),
	"SetLoginEnvironment":     boolOr(""),
	"BindLogSockets":          boolOr(""),
	"KeyringMode":             words("inherit private shared"),
	"UtmpMode":                words("init login user"),
	"DevicePolicy":            words("auto closed strict"),
	"CollectMode":             words("inactive inactive-or-failed"),
	"FailureAction":           words(emergencyActions),
	"SuccessAction":           words(emergencyActions),
	"StartLimitAction":        words(emergencyActions),
	"JobTimeoutAction":        words(emergencyActions),
	"OnFailureJobMode":        words(jobModes),
	"OnSuccessJobMode":        words(jobModes),

	"RuntimeDirectoryPreserve":    boolOr("restart"),
	"FileDescriptorStorePreserve": boolOr("restart"),
	"CPUSchedulingPolicy":         words("other batch idle fifo rr").with(isNumber(0, 1<<30)),
	"IOSchedulingClass":           words("none realtime best-effort idle").with(isNumber(0, 1<<30)),
	"NUMAPolicy":                  words("default preferred bind interleave local"),
	"BindIPv6Only":                boolOr("default both ipv6-only"),
	"Timestamping":                boolOr("us usec µs ns nsec"),
	"SocketProtocol":              words("udplite sctp mptcp@257"),
	"LogLevelMax":                 words(levels).with(isNumber(0, 7)),
	"SyslogLevel":                 words(levels).with(isNumber(0, 7)),
	"SyslogFacility":              words(facilities).with(isNumber(0, 127)),
	"ManagedOOMSwap":              words("auto kill"),
	"ManagedOOMMemoryPressure":    words("auto kill"),
	"ManagedOOMPreference":        words("none avoid omit"),
	"MemoryPressureWatch":         boolOr("auto on off skip"),
	"IPTOS":                       words("low-delay throughput reliability low-cost").with(isNumber(0, 255)),
}
