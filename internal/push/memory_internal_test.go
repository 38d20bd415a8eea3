package push

import "testing"

// A host that leaves the repo and comes back is offered to optimistically again: it may be another
// machine by then.
func TestMemoryForgets(t *testing.T) {
	var m Memory
	for _, host := range []string{"stays", "leaves"} {
		m.heardOptimistic(host, false)
		m.heardOptimistic(host, false)
	}

	m.KeepOnly(func(host string) bool { return host == "stays" })
	if !m.isPlainOnly("stays") || m.isPlainOnly("leaves") {
		t.Errorf("plain only: stays %v, leaves %v; want true and false", m.isPlainOnly("stays"), m.isPlainOnly("leaves"))
	}
}
