package unitfile_test

import (
	"testing"

	"bellhop/internal/unitfile"
)

func TestUnready(t *testing.T) {
	for text, want := range map[string]string{
		"ExecStart=/bin/x\n":                          "",
		"Type=simple\nTimeoutStartSec=3\n":            "",
		"Type=notify\n":                               ": it did not say READY=1 in time, as Type=notify asks",
		"Type=notify\nTimeoutStartSec=3\n":            ": it did not say READY=1 within its TimeoutStartSec=3, as Type=notify asks",
		"Type=notify-reload\nTimeoutSec=2min\n":       ": it did not say READY=1 within its TimeoutSec=2min, as Type=notify-reload asks",
		"Type=forking\nTimeoutStartSec=3\n":           ": its first process did not end within its TimeoutStartSec=3, as Type=forking asks",
		"Type=dbus\nBusName=a.b\nTimeoutStartSec=3\n": ": it did not take its BusName= within its TimeoutStartSec=3, as Type=dbus asks",
	} {
		if got := unitfile.Read([]byte("[Service]\n" + text)).Unready(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
