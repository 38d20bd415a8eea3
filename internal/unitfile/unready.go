package unitfile

import "fmt"

// awaited is what systemd waits for until a service of a Type= counts as started, as a thing that has not
// happened. Services of other types count as soon as their program runs.
var awaited = map[string]string{
	"notify":        "it did not say READY=1",
	"notify-reload": "it did not say READY=1",
	"dbus":          "it did not take its BusName=",
	"forking":       "its first process did not end",
	"oneshot":       "its program did not end",
}

// Unready says what a service did not do whose start took too long, for the end of a message:
// ": it did not say READY=1 within its TimeoutStartSec=3, as Type=notify asks". It is "" where
// systemd waits for nothing but the program itself.
func (u *Unit) Unready() string {
	kind := u.Value("Service", "Type")
	what := awaited[kind]
	if what == "" {
		return ""
	}

	within := "in time"
	for _, key := range []string{"TimeoutSec", "TimeoutStartSec"} {
		if limit := u.Value("Service", key); limit != "" {
			within = fmt.Sprintf("within its %s=%s", key, limit)
		}
	}
	return fmt.Sprintf(": %s %s, as Type=%s asks", what, within, kind)
}
