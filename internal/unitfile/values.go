package unitfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A valueError says why systemd does not take a value.
type valueError struct {
	reason string   // "want a boolean"
	among  []string // words that could be meant
	fatal  bool     // systemd gives up the whole unit; else it ignores the assignment
	since  int      // the value is right from this systemd on; 0: in none of the table
}

func want(format string, args ...any) *valueError {
	return &valueError{reason: fmt.Sprintf(format, args...)}
}

// checkValue tells why no systemd of the table takes the value of a key, or the version from which
// one does; nil when all do, or nobody can tell. What has a specifier in it ("%i") is not judged.
func checkValue(section, key, kind, value string) *valueError {
	if value == "" || hasSpecifier(value) {
		return nil
	}

	if list, ok := enums[section+"."+key]; ok {
		return list.check(value)
	}

	if list, ok := enums[key]; ok {
		return list.check(value)
	}

	if check, ok := checksByKey[section+"."+key]; ok {
		return check(value)
	}

	if check, ok := checksByKey[key]; ok {
		return check(value)
	}

	if check, ok := checksByKind[kind]; ok {
		return check(value)
	}

	return nil
}

// hasSpecifier tells whether systemd replaces something in value. "50%" is a number.
func hasSpecifier(value string) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] == '%' && strings.IndexByte(" \t,:/", value[i+1]) < 0 {
			return true
		}
	}

	return false
}

// checksByKind are the checks of what systemd calls a type.
var checksByKind = map[string]func(string) *valueError{
	"BOOLEAN":        checkBool,
	"SECONDS":        checkSpan,
	"NANOSECONDS":    checkSpan,
	"TIMER":          checkSpan,
	"UNSIGNED":       checkUnsigned,
	"INTEGER":        checkInteger,
	"LONG":           checkInteger,
	"SIZE":           checkSize,
	"MODE":           checkMode,
	"SIGNAL":         checkSignal,
	"NICE":           checkRange(-20, 19),
	"OOMSCOREADJUST": checkRange(-1000, 1000),
	"CPUSCHEDPRIO":   checkRange(0, 99),
	"IOPRIORITY":     checkRange(0, 7),
	"UNIT[...]":      checkUnits(""),
	"SLICE":          checkUnits("slice"),
	"SOCKETS":        checkUnits("socket"),
	"SERVICE":        checkUnits("service"),
	"UNIT":           checkUnits(""),
}

// checksByKey are the checks of single keys, by key or by section and key.
var checksByKey = map[string]func(string) *valueError{
	"Timer.OnCalendar":     checkOnCalendar,
	"JobTimeoutSec":        checkSpan,
	"JobRunningTimeoutSec": checkSpan,
	"TimeoutIdleSec":       checkSpan,
	"TimeoutSec":           checkSpan,
	"TimeoutStopSec":       checkSpan,
	"TimeoutAbortSec":      checkTimeoutAbort,
	"CPUQuotaPeriodSec":    checkSpan,

	"MemoryMin": checkMemory, "MemoryLow": checkMemory, "MemoryHigh": checkMemory, "MemoryMax": checkMemory,
	"MemorySwapMax": checkMemory, "MemoryZSwapMax": checkMemory, "MemoryLimit": checkMemory,
	"DefaultMemoryMin": checkMemory, "DefaultMemoryLow": checkMemory, "StartupMemoryLow": checkMemory, "StartupMemoryHigh": checkMemory, "StartupMemoryMax": checkMemory,
	"TasksMax":  checkTasks,
	"CPUQuota":  checkQuota,
	"CPUWeight": checkWeight, "StartupCPUWeight": checkWeight, "IOWeight": checkIOWeight, "StartupIOWeight": checkIOWeight,

	"LimitNICE": checkLimit(isNiceLimit),
	"LimitCPU":  checkLimit(isSpan), "LimitRTTIME": checkLimit(isSpan),
	"LimitNOFILE": checkLimit(isCount), "LimitNPROC": checkLimit(isCount), "LimitLOCKS": checkLimit(isCount),
	"LimitSIGPENDING": checkLimit(isCount), "LimitRTPRIO": checkLimit(isCount),
	"LimitFSIZE": checkLimit(isSize), "LimitDATA": checkLimit(isSize), "LimitSTACK": checkLimit(isSize), "LimitCORE": checkLimit(isSize),
	"LimitRSS": checkLimit(isSize), "LimitAS": checkLimit(isSize), "LimitMEMLOCK": checkLimit(isSize), "LimitMSGQUEUE": checkLimit(isSize),

	"ExecStart": checkCommands, "ExecStartPre": checkCommands, "ExecStartPost": checkCommands, "ExecCondition": checkCommands,
	"ExecReload": checkCommands, "ExecStop": checkCommands, "ExecStopPre": checkCommands, "ExecStopPost": checkCommands,

	"WorkingDirectory": checkWorkingDirectory,
	"RootDirectory":    checkAbsolute, "RootImage": checkAbsolute, "EnvironmentFile": checkEnvironmentFile, "Environment": checkEnvironment,
	"PathExists": checkAbsolute, "PathExistsGlob": checkAbsolute, "PathChanged": checkAbsolute, "PathModified": checkAbsolute, "DirectoryNotEmpty": checkAbsolute,
	"RequiresMountsFor": checkAbsolutes, "WantsMountsFor": checkAbsolutes,
	"ReadWritePaths": checkPrefixed, "ReadOnlyPaths": checkPrefixed, "InaccessiblePaths": checkPrefixed, "ExecPaths": checkPrefixed, "NoExecPaths": checkPrefixed,
	"ReadWriteDirectories": checkPrefixed, "ReadOnlyDirectories": checkPrefixed, "InaccessibleDirectories": checkPrefixed,
	"TTYPath": checkAbsolute, "SourcePath": checkAbsolute, "NetworkNamespacePath": checkAbsolute, "IPCNamespacePath": checkAbsolute, "RootVerity": checkAbsolute,
	"RuntimeDirectory": checkRelative, "StateDirectory": checkRelative, "CacheDirectory": checkRelative, "LogsDirectory": checkRelative, "ConfigurationDirectory": checkRelative,

	"CapabilityBoundingSet": checkCapabilities, "AmbientCapabilities": checkCapabilities,
	"SystemCallFilter": checkSyscalls, "SystemCallLog": checkSyscalls,
	"IPAddressAllow": checkAddresses, "IPAddressDeny": checkAddresses,
	"RestrictNamespaces": checkNamespaces, "RestrictAddressFamilies": checkFamilies,
	"SuccessExitStatus": checkStatuses, "RestartPreventExitStatus": checkStatuses, "RestartForceExitStatus": checkStatuses,

	"User": checkAccount, "Group": checkAccount, "SocketUser": checkAccount, "SocketGroup": checkAccount, "SupplementaryGroups": checkAccounts,

	"ListenStream": checkListen, "ListenDatagram": checkListen, "ListenSequentialPacket": checkListen,
	"ListenFIFO": checkAbsolute, "ListenSpecial": checkAbsolute,

	"WantedBy": checkInstall, "RequiredBy": checkInstall, "UpheldBy": checkInstall, "Alias": checkInstall, "Also": checkInstall,
}

func checkBool(value string) *valueError {
	if _, ok := ParseBool(value); ok {
		return nil
	}

	err := want("want yes or no")
	err.among = []string{"yes", "no", "true", "false", "on", "off"}
	return err
}

func checkUnsigned(value string) *valueError {
	if isUnsigned(value) {
		return nil
	}

	return want("want a number that is not negative")
}

func isUnsigned(value string) bool {
	_, err := strconv.ParseUint(strings.TrimPrefix(value, "+"), 0, 32)
	return err == nil && !strings.Contains(value, "_")
}

func checkInteger(value string) *valueError {
	if _, err := strconv.ParseInt(value, 0, 64); err == nil && !strings.Contains(value, "_") {
		return nil
	}

	return want("want a number")
}

func checkRange(low, high int) func(string) *valueError {
	return func(value string) *valueError {
		if isNumber(low, high)(value) {
			return nil
		}
		return want("want a number from %d to %d", low, high)
	}
}

func checkMode(value string) *valueError {
	n, err := strconv.ParseUint(value, 8, 32)
	if err == nil && n <= 0o7777 && !strings.ContainsAny(value, "_+") {
		return nil
	}

	return want("want a mode in octal digits, as 0640")
}

// signals are the names without "SIG".
var signals = strings.Fields("HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS UNUSED")

func checkSignal(value string) *valueError {
	name := strings.TrimPrefix(value, "SIG")
	realTime := name == "RTMIN" || name == "RTMAX"
	if rest, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		realTime = isNumber(0, 30)(rest)
	}

	if rest, ok := strings.CutPrefix(name, "RTMAX-"); ok {
		realTime = isNumber(0, 30)(rest)
	}

	if realTime || slices.Contains(signals, name) || isNumber(1, 64)(value) {
		return nil
	}

	err := want("want a signal, as SIGTERM")
	for _, s := range signals {
		err.among = append(err.among, "SIG"+s)
	}

	return err
}

// checkUnits checks a list of units; kind is their ending, "" for any.
func checkUnits(kind string) func(string) *valueError {
	return func(value string) *valueError {
		list, err := Words(value)
		if err != nil {
			return want("%v", err)
		}
		for _, name := range list {
			if _, k := SplitName(name); ValidName(name) && (kind == "" || k == kind) {
				continue
			}
			if kind != "" {
				return want("%q is no unit that ends in .%s", name, kind)
			}
			return badName(name)
		}
		return nil
	}
}

func badName(name string) *valueError {
	stem, kind := SplitName(name)
	e := want("%q is no name of a unit", name)
	if stem != "" && !slices.Contains(Kinds, kind) {
		e.reason += ": want an ending as .service or .target"
		if near := Near(kind, Kinds); near != "" {
			e.reason += fmt.Sprintf(" (did you mean %s.%s?)", stem, near)
		}
	}

	return e
}

// checkInstall is checkUnits for [Install]: systemctl enable fails, and the unit is not enabled.
func checkInstall(value string) *valueError { return checkUnits("")(value) }

func checkOnCalendar(value string) *valueError {
	err := CheckCalendar(value)
	if err == nil {
		return nil
	}

	e := want("it %v (systemd-analyze calendar '%s')", err, value)
	e.among = calendarWords
	return e
}

func checkAccount(value string) *valueError {
	// What systemd itself asks, and no more: control characters, ":" and "/" can be in no name, and
	// a number with something around it is neither name nor number.
	bad := strings.ContainsAny(value, ":/") || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
	isDots := value == "." || value == ".."
	isNobody := value == "65535" || value == "4294967295" // -1 as a number: no user
	isTrimmed := strings.Trim(value, Whitespace) == value
	isWrong := bad || isDots || isNobody
	if isTrimmed && !isWrong {
		return nil
	}

	e := want("%q is no name of a user or group", value)
	e.fatal = true
	return e
}

func checkAccounts(value string) *valueError {
	list, err := Words(value)
	if err != nil {
		return want("%v", err)
	}

	for _, name := range list {
		if e := checkAccount(name); e != nil {
			return e
		}
	}

	return nil
}

// checkListen checks the address of a socket: a port, IP:PORT, a path, or an abstract name.
func checkListen(value string) *valueError {
	other := strings.HasPrefix(value, "/") || strings.HasPrefix(value, "@") || strings.HasPrefix(value, "vsock:")
	if other || isNumber(1, 65535)(value) {
		return nil
	}

	address, device, _ := strings.Cut(value, "%") // [fe80::1]:80%eth0
	if _, err := netip.ParseAddrPort(address); err == nil && !strings.HasSuffix(address, ":0") {
		return nil
	}

	if _, err := netip.ParseAddrPort(address + "%" + device); err == nil {
		return nil
	}

	return want("want a port, IP:PORT, [IPv6]:PORT, an absolute path or @NAME")
}

// checkEnvironment checks a list of NAME=VALUE.
func checkEnvironment(value string) *valueError {
	list, err := CommandWords(value)
	if err != nil {
		return want("%v", err)
	}

	for _, word := range list {
		name, _, ok := strings.Cut(word, "=")
		if !ok {
			return want("%q is not NAME=VALUE; a value with blanks is quoted whole: \"NAME=a b\"", word)
		}
		first := name != "" && name[0] >= '0' && name[0] <= '9'
		if name == "" || first || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return want("%q is no name of a variable", name)
		}
	}

	return nil
}

// checkNamespaces checks a boolean or a list of kinds, which "~" turns round.
func checkNamespaces(value string) *valueError {
	if _, ok := ParseBool(value); ok {
		return nil
	}

	kinds := []string{"cgroup", "ipc", "net", "mnt", "pid", "user", "uts", "time"}
	for _, word := range strings.Fields(strings.TrimPrefix(value, "~")) {
		if !slices.Contains(kinds, strings.Trim(word, `"'`)) {
			e := want("want yes, no or names of %s", oneOf(kinds))
			e.among = kinds
			return e
		}
	}

	return nil
}

func checkFamilies(value string) *valueError {
	for _, word := range strings.Fields(strings.TrimPrefix(value, "~")) {
		if word = strings.Trim(word, `"'`); word != "none" && !strings.HasPrefix(word, "AF_") {
			return want("%q is no address family: want none or names as AF_INET", word)
		}
	}

	return nil
}

// checkStatuses checks exit statuses: numbers, signals, and names as TEMPFAIL.
func checkStatuses(value string) *valueError {
	for _, word := range strings.Fields(value) {
		isName := strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789+-\"'x") == ""
		if !isName {
			return want("%q is no exit status: want a number, a name as TEMPFAIL, or a signal", word)
		}
	}

	return nil
}
