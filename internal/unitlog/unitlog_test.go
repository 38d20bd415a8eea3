package unitlog_test

import (
	"strings"
	"testing"

	"bellhop/internal/unitlog"
)

func TestLine(t *testing.T) {
	quote := func(words []string) string { return "'" + strings.Join(words, "' '") + "'" }
	for _, c := range []struct {
		units []string
		want  string
	}{
		{nil, `'journalctl' '-f'`},
		{[]string{"a.service", "b.timer"}, `'journalctl' '-f' '-u' 'a.service' '-u' 'b.timer'`},
		{[]string{"app/web.service"}, `uid=$('id' '-u' '--' 'app') && 'journalctl' '-f' '_SYSTEMD_USER_UNIT=web.service' _UID=$uid + 'USER_UNIT=web.service' _UID=$uid`},
		{[]string{"app/a.service", "k-key.service", "app/b.service"},
			`uid=$('id' '-u' '--' 'app') && 'journalctl' '-f' '_SYSTEMD_USER_UNIT=a.service' '_SYSTEMD_USER_UNIT=b.service' _UID=$uid + 'USER_UNIT=a.service' 'USER_UNIT=b.service' _UID=$uid`},
		{[]string{"$(reboot)/x.service"}, `'journalctl' '-f'`},
	} {
		if got := unitlog.Line([]string{"journalctl", "-f"}, c.units, quote); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.units, got, c.want)
		}
	}
}
