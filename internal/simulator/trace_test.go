package simulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A trace is what happened in a world, in its order. What happens at one instant to several hosts has
// none: there it is sorted.
type trace struct {
	start time.Time

	mu     sync.Mutex
	events []happened
}

type happened struct {
	at   time.Duration
	who  string // a host, or "" for the world
	what string
}

func (tr *trace) add(who, format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.events = append(tr.events, happened{time.Since(tr.start), who, fmt.Sprintf(format, args...)})
}

// logged puts a log into a trace.
type logged struct{ *trace }

func (l logged) Write(p []byte) (int, error) {
	_, line, _ := strings.Cut(strings.TrimSpace(string(p)), " ")
	l.add("", "  log: %s", line)
	return len(p), nil
}

// sorted are the events of the trace.
func (tr *trace) sorted() []happened {
	tr.mu.Lock()
	defer tr.mu.Unlock()

	all := slices.Clone(tr.events)
	slices.SortStableFunc(all, func(a, b happened) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.who, b.who), cmp.Compare(a.what, b.what))
	})
	return all
}

func (h happened) String() string { return fmt.Sprintf("%14v %-3s %s", h.at, h.who, h.what) }

func (tr *trace) String() string {
	var b strings.Builder
	for _, h := range tr.sorted() {
		fmt.Fprintln(&b, h)
	}
	return b.String()
}

// hash is of all that happened.
func (tr *trace) hash() string {
	sum := sha256.Sum256([]byte(tr.String()))
	return hex.EncodeToString(sum[:])
}

// firstDifference tells where two traces part.
func (tr *trace) firstDifference(other *trace) string {
	a, b := tr.sorted(), other.sorted()
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			from := max(0, i-5)
			return fmt.Sprintf("event %d of %d and %d:\n%v\n\n%v", i, len(a), len(b), a[from:min(i+3, len(a))], b[from:min(i+3, len(b))])
		}
	}
	return fmt.Sprintf("one has %d events, the other %d", len(a), len(b))
}
