package admission

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(nets ...string) (p Proxies) {
	for _, n := range nets {
		p = append(p, netip.MustParsePrefix(n))
	}
	return p
}

func TestSender(t *testing.T) {
	docker := prefixes("172.18.0.0/16")
	chain := prefixes("172.18.0.0/16", "198.51.100.0/24", "2001:db8:aaaa::/48", "127.0.0.0/8")
	for _, c := range []struct {
		name    string
		trust   Proxies
		remote  string
		headers []string // lines of X-Forwarded-For
		want    string
		shared  bool
	}{
		{"direct", nil, "203.0.113.7:1", nil, "203.0.113.7", false},
		{"direct, with a claim", nil, "203.0.113.7:1", []string{"1.1.1.1"}, "203.0.113.7", false},
		{"direct, with a claim, beside proxies", docker, "203.0.113.7:1", []string{"1.1.1.1"}, "203.0.113.7", false},
		{"direct IPv6", nil, "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1:2::", false},
		{"direct IPv4 in IPv6", nil, "[::ffff:203.0.113.7]:1", nil, "203.0.113.7", false},
		{"loopback without the flag", nil, "127.0.0.1:1", []string{"1.1.1.1"}, "127.0.0.1", true},
		{"loopback IPv6 without the flag", nil, "[::1]:1", nil, "::", true},
		{"container network without the flag", nil, "172.18.0.2:1", []string{"1.1.1.1"}, "172.18.0.2", true},
		{"unique local without the flag", nil, "[fd00::2]:1", nil, "fd00::", true},
		{"overlay network without the flag", nil, "100.100.1.2:1", nil, "100.100.1.2", true},
		{"another private network beside the flag", docker, "10.0.0.9:1", []string{"1.1.1.1"}, "10.0.0.9", false},
		{"loopback beside the flag", docker, "127.0.0.1:1", []string{"1.1.1.1"}, "127.0.0.1", false},
		{"proxy", docker, "172.18.0.2:1", []string{"203.0.113.7"}, "203.0.113.7", false},
		{"proxy as IPv4 in IPv6", docker, "[::ffff:172.18.0.2]:1", []string{"203.0.113.7"}, "203.0.113.7", false},
		{"proxy without the header", docker, "172.18.0.2:1", nil, "172.18.0.2", true},
		{"proxy with an empty header", docker, "172.18.0.2:1", []string{""}, "172.18.0.2", true},
		{"spoofed on the left", docker, "172.18.0.2:1", []string{"127.0.0.1, 10.0.0.1, 140.82.112.1, 203.0.113.7"}, "203.0.113.7", false},
		{"spoofed as the proxy", docker, "172.18.0.2:1", []string{"1.1.1.1, 172.18.0.9, 203.0.113.7"}, "203.0.113.7", false},
		{"spoofed in a line of its own", docker, "172.18.0.2:1", []string{"140.82.112.1", "203.0.113.7"}, "203.0.113.7", false},
		{"garbage on the left", docker, "172.18.0.2:1", []string{"unknown, <script>, ,203.0.113.7"}, "203.0.113.7", false},
		{"garbage from the proxy", docker, "172.18.0.2:1", []string{"203.0.113.7, unknown"}, "172.18.0.2", true},
		{"a hidden hop", docker, "172.18.0.2:1", []string{"203.0.113.7, _hidden"}, "172.18.0.2", true},
		{"ends in a comma", docker, "172.18.0.2:1", []string{"203.0.113.7,"}, "172.18.0.2", true},
		{"with a port", docker, "172.18.0.2:1", []string{"203.0.113.7:4711"}, "203.0.113.7", false},
		{"IPv6", docker, "172.18.0.2:1", []string{"2001:db8:1:2:3::4"}, "2001:db8:1:2::", false},
		{"IPv6 in brackets", docker, "172.18.0.2:1", []string{"[2001:db8:1:2:3::4]"}, "2001:db8:1:2::", false},
		{"IPv6 with a port", docker, "172.18.0.2:1", []string{"[2001:db8:1:2:3::4]:443"}, "2001:db8:1:2::", false},
		{"IPv6 with a zone", docker, "172.18.0.2:1", []string{"fe80::1%eth0"}, "fe80::", false},
		{"IPv4 in IPv6", docker, "172.18.0.2:1", []string{"::ffff:203.0.113.7"}, "203.0.113.7", false},
		{"spaces and tabs", docker, "172.18.0.2:1", []string{" \t203.0.113.7 \t"}, "203.0.113.7", false},
		{"two proxies", chain, "172.18.0.2:1", []string{"203.0.113.7, 198.51.100.4"}, "203.0.113.7", false},
		{"three proxies, two lines", chain, "172.18.0.2:1", []string{"9.9.9.9, 203.0.113.7, 198.51.100.4", "[2001:db8:aaaa::1]:80"}, "203.0.113.7", false},
		{"all are proxies", chain, "172.18.0.2:1", []string{"198.51.100.9, 198.51.100.4"}, "198.51.100.9", true},
		{"two proxies, garbage between", chain, "172.18.0.2:1", []string{"203.0.113.7, x, 198.51.100.4"}, "198.51.100.4", true},
		{"many hops", docker, "172.18.0.2:1", []string{strings.Repeat("1.1.1.1,", 5000) + "203.0.113.7"}, "203.0.113.7", false},
		{"no address at all", docker, "@", []string{"1.1.1.1"}, "invalid IP", false},
	} {
		r := httptest.NewRequest("POST", "/v1/webhook", nil)
		r.RemoteAddr = c.remote
		for _, h := range c.headers {
			r.Header.Add("X-Forwarded-For", h)
		}
		r.Header.Set("Forwarded", "for=9.9.9.9")
		r.Header.Set("X-Real-IP", "9.9.9.9")
		got := c.trust.Sender(r)
		if got.Addr.String() != c.want || got.Shared != c.shared {
			t.Errorf("%s: sender %v, shared %v; want %s, %v", c.name, got.Addr, got.Shared, c.want, c.shared)
		}
	}
}

// Whatever is to the left of the hop that our proxy wrote changes nothing.
func FuzzForwardedFor(f *testing.F) {
	f.Add("1.1.1.1", "x, ,")
	f.Add("[2001:db8::1]:80,", "172.18.0.9")
	f.Fuzz(func(t *testing.T, one, two string) {
		r := httptest.NewRequest("POST", "/v1/webhook", nil)
		r.RemoteAddr = "172.18.0.2:1"
		r.Header["X-Forwarded-For"] = []string{one, two + ",203.0.113.7"}
		trust := prefixes("172.18.0.0/16")
		if got := trust.Sender(r); got.Addr.String() != "203.0.113.7" || got.Shared {
			t.Errorf("sender of %q, %q = %+v", one, two, got)
		}
		r.Header["X-Forwarded-For"] = []string{one, two}
		if got := trust.Sender(r); got.Addr.Is4In6() || got.Addr.Zone() != "" || got.Addr.Is6() && got.Addr != Network(got.Addr) {
			t.Errorf("sender of %q, %q = %+v, which is not in the form that is counted", one, two, got)
		}
	})
}
