package deploy

import (
	"net"
	"os"
	"strings"

	"bellhop/internal/bundle"
)

// Which host is the one that bellhop itself runs on: it goes last and alone.

// isOwn says that bellhop runs on that host: its boot is ours, or its address is. Containers
// share a boot with the machine they run on: one with a system of its own is told apart by its
// machine id, while bellhop in a bare one has none and goes down with its machine.
func (d *Deployer) isOwn(hp *HostPlan) bool {
	if own := d.bootID(); own != "" && hp.last.BootID != "" {
		return hp.last.BootID == own && !d.otherMachine(hp.Name)
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

// otherMachine says that a host has told, since this process began, that it is another
// machine than ours.
func (d *Deployer) otherMachine(host string) bool {
	id := d.MachineID
	if id == "" {
		p, _ := os.ReadFile("/etc/machine-id")
		id = string(p)
	}
	own := bundle.MachineDigest(id)
	told := d.hosts.machine(host)
	return own != "" && !told.IsEmpty() && !told.Is(own)
}

// bootID is that of the machine bellhop runs on.
func (d *Deployer) bootID() string {
	if d.BootID != "" {
		return d.BootID
	}
	p, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(p))
}
