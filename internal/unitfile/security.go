package unitfile

import (
	"net/netip"
	"slices"
	"strings"
)

// capabilities are the names without "CAP_".
var capabilities = strings.Fields("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
	"NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE " +
	"SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND " +
	"AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")

// checkCapabilities checks names of capabilities, which "~" turns round. systemd passes over one that
// it does not know, so the program runs without it, or with it.
func checkCapabilities(value string) *valueError {
	for _, word := range strings.Fields(strings.TrimPrefix(value, "~")) {
		name := strings.ToUpper(strings.Trim(word, `"'`))
		short, ok := strings.CutPrefix(name, "CAP_")
		if isNumber(0, 63)(name) || ok && slices.Contains(capabilities, short) {
			continue
		}
		e := want("%q is no capability, as CAP_NET_BIND_SERVICE", word)
		if near := Near(short, capabilities); near != "" {
			e.reason += " (did you mean CAP_" + near + "?)"
		}
		return e
	}

	return nil
}

// syscallGroups are the groups of system calls; single calls depend on the machine.
var syscallGroups = strings.Fields("@default @aio @basic-io @chown @clock @cpu-emulation @debug @file-system @io-event @ipc @keyring @memlock @module " +
	"@mount @network-io @obsolete @pkey @privileged @process @raw-io @reboot @resources @sandbox @setuid @signal @swap @sync @system-service @timer @known")

func checkSyscalls(value string) *valueError {
	for _, word := range strings.Fields(strings.TrimPrefix(value, "~")) {
		group, _, _ := strings.Cut(strings.Trim(word, `"'`), ":")
		if !strings.HasPrefix(group, "@") || slices.Contains(syscallGroups, group) {
			continue
		}
		e := want("%q is no group of system calls", group)
		if near := Near(group, syscallGroups); near != "" {
			e.reason += " (did you mean " + near + "?)"
		}
		return e
	}

	return nil
}

// checkAddresses checks a list of addresses, networks, and the words for them.
func checkAddresses(value string) *valueError {
	for _, word := range strings.Fields(value) {
		word = strings.Trim(word, `"'`)
		if slices.Contains([]string{"any", "localhost", "link-local", "multicast"}, word) {
			continue
		}
		_, err1 := netip.ParseAddr(word)
		_, err2 := netip.ParsePrefix(word)
		if err1 != nil && err2 != nil {
			return want("%q is no address, network, or any, localhost, link-local or multicast", word)
		}
	}

	return nil
}
