package fleet

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var nameAddress = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})$`)

// address reads an IP, [v6]:port, name or name:port, in that order, as "host:port".
func address(s string) (string, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 22).String(), nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		if ap.Port() == 0 {
			return "", fmt.Errorf("port 0")
		}
		return ap.String(), nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		if ip, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil {
			return netip.AddrPortFrom(ip, 22).String(), nil
		}
	}
	name, port, has := strings.Cut(s, ":")
	if !has {
		port = "22"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("want an IP, [v6]:port, name or name:port")
	}
	if !nameAddress.MatchString(name) || strings.Contains(name, "..") {
		return "", fmt.Errorf("want an IP, [v6]:port, name or name:port")
	}
	if digitsAndDots(name) {
		return "", fmt.Errorf("neither an IP nor a name")
	}
	return strings.ToLower(name) + ":" + port, nil
}

func digitsAndDots(s string) bool { return strings.Trim(s, "0123456789.") == "" }
