package routes

import (
	"net"
	"os"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// Which host is the one that bellhop itself runs on: it goes last and alone.

// A Machine is the one that bellhop runs on. What is not known is "".
type Machine struct {
	bootID string
	digest string // of its machine id
}

// ThisMachine is what the machine says of itself, where a boot id or a machine id is not given.
func ThisMachine(bootID, machineID string) Machine {
	if bootID == "" {
		bootID = readLine("/proc/sys/kernel/random/boot_id")
	}
	if machineID == "" {
		machineID = readLine("/etc/machine-id")
	}
	return Machine{bootID: bootID, digest: bundle.MachineDigest(machineID)}
}

func readLine(path string) string {
	p, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(p))
}

// Is says whether a host is that machine: its boot is ours, or its address is. bootID is what the host said
// when it was heard last, said what it says of its machine id. Containers share a boot
// with the machine they run on. One with a system of its own differs by the machine id that it
// said since this process began; bellhop in a bare container has none, and goes down with its machine.
func (own Machine) Is(bootID string, addresses []string, said plain.Foreign) bool {
	if own.bootID != "" && bootID != "" {
		bothKnown := own.digest != "" && !said.IsEmpty()
		otherMachine := bothKnown && !said.Is(own.digest)
		return bootID == own.bootID && !otherMachine
	}

	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err == nil && port == "22" && isLocal(host) {
			return true
		}
	}
	return false
}

func isLocal(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
