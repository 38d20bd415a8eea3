package fleet_test

import (
	"testing"

	"bellhop/internal/fleet"
)

// A commit that the first release deployed comes to the digest that it had then, although this release
// refuses it or reads it in another way: the keys of a host that holds it are opened from it.
func TestFormerDigests(t *testing.T) {
	const quiet = "e38f7f2b01c75162b699c52576365befbddb4e66297a823539481aa9d1700239"
	for name, c := range map[string]struct {
		service string
		more    map[string]string
		want    string // as the first release computed it
	}{
		"health": {"health: ['http://127.0.0.1:{port}/']\nsettings: { port: 1 }\nkeys: [k]\n", nil, quiet},
		"waves": {"keys: [k]\n", map[string]string{"bellhop.yaml": "network: n\nrollout: { waves: ['1', '50%'], max_failures: 2 }\nhosts:\n  a: { address: 10.0.0.1, host_key: " +
			hostKey("a") + ", nixos: .#a, arch: amd64, services: { svc: true } }\n"}, quiet},
		"scalars": {"settings: { umask: 0077, version: 1.10, id: 12345678901234567890, hex: 0x1F, yes: True, none: ~, neg: -0, under: 1_000, list: [010, 1.0] }\nkeys: [k]\n", map[string]string{
			"services/svc/files/etc/out.tmpl": "{{ .Settings.umask }} {{ .Settings.version }} {{ .Settings.id }} {{ .Settings.hex }} {{ .Settings.yes }} {{ .Settings.none }} {{ .Settings.neg }} " +
				"{{ .Settings.under }} {{ .Settings.list }} {{ json .Settings }} {{ if .Settings.neg }}y{{ end }}"}, "5d061aa70a1ce54047160440cdb3ccc882f20d7bfe74e8dd136d7a9f7f7d6829"},
		"archive": {"package: { url: 'https://e.com/x.tar.xz', sha256: " + sha + " }\nkeys: [k]\n", nil, "3520cc8f954bd69946db6bc8a442384d3d63aa33313d5d41350c57cc820d9356"},
		"gz":      {"package: { url: 'https://e.com/x.gz', sha256: " + sha + " }\nkeys: [k]\n", nil, "3520cc8f954bd69946db6bc8a442384d3d63aa33313d5d41350c57cc820d9356"},
	} {
		l := loader()
		l.Former = true
		f, err := l.Load(t.Context(), small(c.service, c.more))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b := mustBundle(t, f, "a"); b.Digest != c.want {
			t.Errorf("%s: digest %s, want %s", name, b.Digest, c.want)
		}
	}

	l := &fleet.Loader{Former: true} // what can't be read at all has no hosts, and breaks nothing
	if f, err := l.Load(t.Context(), small("units: [\n", map[string]string{"bellhop.yaml": "network: [\n"})); err == nil && len(f.Hosts) != 0 {
		t.Errorf("hosts of a broken file: %v", f.Hosts)
	}
}
