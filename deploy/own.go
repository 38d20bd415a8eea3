package deploy

import (
	"net"
	"os"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// Which host is the one that bellhop itself runs on: it goes last and alone.

// An ownMachine is the one that bellhop runs on. What is not known is "".
type ownMachine struct {
	bootID string
	digest string // of its machine id
}

func (d *Deployer) ownMachine() ownMachine {
	boot, id := d.BootID, d.MachineID
	if boot == "" {
		boot = readLine("/proc/sys/kernel/random/boot_id")
	}
	if id == "" {
		id = readLine("/etc/machine-id")
	}
	return ownMachine{bootID: boot, digest: bundle.MachineDigest(id)}
}

func readLine(path string) string {
	p, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(p))
}

// is says whether a host is that machine: its boot is ours, or its address is. Containers share a boot
// with the machine they run on. One with a system of its own differs by the machine id that it
// said since this process began; bellhop in a bare container has none, and goes down with its machine.
func (own ownMachine) is(hp *HostPlan, said plain.Foreign) bool {
	if own.bootID != "" && hp.last.BootID != "" {
		bothKnown := own.digest != "" && !said.IsEmpty()
		otherMachine := bothKnown && !said.Is(own.digest)
		return hp.last.BootID == own.bootID && !otherMachine
	}

	for _, a := range hp.host.Addresses {
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
