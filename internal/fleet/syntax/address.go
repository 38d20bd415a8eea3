package syntax

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var nameAddress = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})$`)

// Address reads an IP, [v6]:port, name or name:port, in that order, as "host:port".
func Address(s string) (string, error) {
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

// maxURL caps the URL of a probe, in bytes.
const maxURL = 2 << 10

// BadURL says why a host can't ask text; "" when it can.
func BadURL(text string) string {
	const example = "as in http://127.0.0.1:8080/healthz"
	if len(text) > maxURL {
		return fmt.Sprintf("a URL longer than %d bytes", maxURL)
	}
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "want a URL without blanks, " + example
	}
	u, err := url.Parse(text)
	if err != nil {
		return "no URL: want one " + example
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "want http:// or https://, " + example
	case u.Hostname() == "" || u.Opaque != "":
		return "the URL names no host: want one " + example
	case u.User != nil:
		return "a URL with a user or a password would be stored on the host as it is: use a command that reads a key"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "what follows # is sent to no server: leave it out"
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && badPort(u.Port()):
		return "want a port from 1 to 65535, " + example
	}

	return ""
}

// BadTCP says why a host can't connect to text; "" when it can.
func BadTCP(text string) string {
	const want = "want address:port, as in 127.0.0.1:5432 or '[::1]:5432'"
	if strings.Contains(text, "://") {
		return want + ", without a scheme"
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return want
	}
	_, ipErr := netip.ParseAddr(host)
	name := nameAddress.MatchString(host) && !strings.Contains(host, "..") && !digitsAndDots(host)
	if badPort(port) || ipErr != nil && !name {
		return want
	}
	return ""
}

// badPort says whether port is no number from 1 to 65535.
func badPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err != nil || n == 0 || strconv.FormatUint(n, 10) != port
}
