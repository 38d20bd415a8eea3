package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// A Message is what one target is told at once. Its JSON is what a signed POST has as its body.
type Message struct {
	V       int     `json:"v"`
	Network string  `json:"network"`
	Run     string  `json:"run"` // the newest of which something is told; "" is none
	Commit  *string `json:"commit"`
	Author  *string `json:"author"`
	Subject *string `json:"subject"`
	Outcome *string `json:"outcome"` // of the run; null while it goes on
	Error   *string `json:"error"`   // of the run as a whole
	Hosts   []Host  `json:"hosts"`   // that changed, failures first
	TookMs  *int64  `json:"took_ms"` // of the run; null while it goes on
	URL     *string `json:"url"`     // of the run's page; null when the server has no public address

	// Pause says that runs are paused, by whom and why, or no longer. It is there in a message about that alone.
	Pause *string `json:"pause,omitempty"`

	Test bool `json:"test,omitempty"` // nothing happened: somebody tries the target

	pauseTitle string // the pause in a few words

	others []history.RunResult // hosts of the run that did not change for the worse
}

// A Host is what happened to one host.
type Host struct {
	Name   string  `json:"name"`
	Event  Event   `json:"event"`
	State  string  `json:"state"`
	Reason *string `json:"reason"` // of an unconfirmed one: cut-off or deployer-away
	Error  *string `json:"error"`
}

// maxError is how much of an error a message repeats: its first line.
const maxError = 300

// message makes the message of all that waits in q.
func (s *Sender) message(ctx context.Context, network string, q *queue) Message {
	m := Message{V: history.Version, Network: network, Hosts: []Host{}}
	var newest time.Time
	for name, c := range q.changes {
		isNewer := m.Run == "" || c.since.After(newest)
		if c.run != "" && isNewer {
			m.Run, newest = c.run, c.since
		}

		switch {
		case c.event == Paused:
			m.addPause(c)
			continue
		case name == "":
			m.Error = textOf(c.err)
			continue
		}
		m.Hosts = append(m.Hosts, Host{Name: c.host, Event: c.event, State: c.state, Reason: textOf(c.reason), Error: textOf(c.err)})
	}

	slices.SortFunc(m.Hosts, func(a, b Host) int {
		if a.Event != b.Event {
			return slices.Index(inOrder, a.Event) - slices.Index(inOrder, b.Event)
		}
		return strings.Compare(a.Name, b.Name)
	})

	s.addRun(ctx, &m)
	return m
}

var inOrder = []Event{Failed, Away, Drift, Recovered}

func (m *Message) addPause(c change) {
	m.pauseTitle = "runs are paused"
	text := c.err
	if c.isWell {
		m.pauseTitle, text = "runs go on", "runs are no longer paused"
	}
	m.Pause = textOf(text)
}

// Test is a message by which somebody tries a target.
func Test(network string) Message {
	return Message{V: history.Version, Network: network, Hosts: []Host{}, Test: true}
}

// addRun adds who pushed what, and how long it took.
func (s *Sender) addRun(ctx context.Context, m *Message) {
	if m.Run == "" {
		return
	}

	if s.RunURL != nil {
		if page := s.RunURL(m.Run); page != "" {
			m.URL = &page
		}
	}

	r, err := s.Outbox.Run(ctx, m.Run)
	if err != nil || r == nil {
		return // too old to be known; what happened is told all the same
	}

	m.Commit, m.Author, m.Subject = r.Commit, lineOf(r.Author), lineOf(r.Subject)
	if r.Outcome != nil {
		m.Outcome = textOf(string(*r.Outcome))
	}
	if r.FinishedAt != nil {
		took := r.FinishedAt.Sub(r.StartedAt).Milliseconds()
		m.TookMs = &took
	}

	for _, h := range r.Hosts {
		if !slices.ContainsFunc(m.Hosts, func(told Host) bool { return told.Name == h.Name }) {
			m.others = append(m.others, h)
		}
	}
}

// textOf is the first line of s; nil when there is none.
func textOf(s string) *string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if line = plain.Line(line, maxError); line == "" {
		return nil
	}
	return &line
}

func lineOf(s *string) *string {
	if s == nil {
		return nil
	}
	return textOf(*s)
}

// Title is the message in a few words, as the subject of a mail.
func (m Message) Title() string {
	count := map[Event]int{}
	clean := 0
	for _, h := range m.Hosts {
		if h.isClean() {
			clean++
			continue
		}
		count[h.Event]++
	}

	var parts []string
	for _, event := range inOrder {
		if n := count[event]; n > 0 {
			parts = append(parts, plural(n)+" "+words[event])
		}
	}

	if clean > 0 {
		parts = append(parts, plural(clean)+" as deployed again")
	}
	if m.Pause != nil {
		parts = append(parts, m.pauseTitle)
	}

	switch {
	case m.Test:
		return m.Network + ": this is a test"
	case m.Error != nil:
		parts = append([]string{"nothing was deployed"}, parts...)
	case len(parts) == 0:
		parts = append(parts, "deploys work again")
	}

	return m.Network + ": " + strings.Join(parts, ", ")
}

var words = map[Event]string{Failed: "failed", Away: "away", Drift: "edited", Recovered: "well again"}

func plural(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// Body is the message for people, less its title.
func (m Message) Body() string {
	var b strings.Builder
	if m.Test {
		b.WriteString("Messages of bellhop arrive here.\n")
	}
	if m.Error != nil {
		fmt.Fprintln(&b, *m.Error)
	}

	if m.Pause != nil {
		fmt.Fprintln(&b, *m.Pause)
	}
	m.writeHosts(&b)
	if rest := m.rest(); rest != "" {
		fmt.Fprintln(&b, rest)
	}
	if m.Commit != nil {
		fmt.Fprintln(&b, m.commit())
	}
	if m.URL != nil {
		fmt.Fprintln(&b, *m.URL)
	}

	return strings.TrimRight(b.String(), "\n")
}

// maxLines is how many hosts a message names one by one.
const maxLines = 12

// writeHosts writes one line for each host; hosts that failed alike share one.
func (m Message) writeHosts(b *strings.Builder) {
	var lines []string
	names := map[string][]string{}
	for _, h := range m.Hosts {
		line := h.words()
		if names[line] == nil {
			lines = append(lines, line)
		}
		names[line] = append(names[line], h.Name)
	}

	for i, line := range lines {
		if i == maxLines {
			fmt.Fprintf(b, "and %d more\n", len(lines)-maxLines)
			return
		}
		fmt.Fprintf(b, "%s: %s\n", listed(names[line]), line)
	}
}

// listed is names as people list them: many become a number.
func listed(names []string) string {
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:4], ", "), len(names)-4)
	}
	return strings.Join(names, ", ")
}

// isClean says that nothing differs any more on a host of which a difference was told.
func (h Host) isClean() bool { return h.Event == Drift && h.State == history.NowClean }

func (h Host) words() string {
	text := h.State
	switch {
	case h.isClean():
		return "as deployed again"
	case h.Event == Drift:
		text = "differs from what was deployed"
	case h.Event == Away:
		text = "away"
	case h.Event == Recovered:
		return "well again"
	}

	if h.Reason != nil {
		text += " (" + *h.Reason + ")"
	}
	if h.Error != nil {
		text += ", " + *h.Error
	}

	return text
}

// rest says how the other hosts of the run fared.
func (m Message) rest() string {
	by := map[string][]string{}
	var outcomes []string
	for _, h := range m.others {
		if h.Outcome == nil {
			continue
		}
		word := string(*h.Outcome)
		if by[word] == nil {
			outcomes = append(outcomes, word)
		}
		by[word] = append(by[word], h.Name)
	}

	slices.Sort(outcomes)

	for i, word := range outcomes {
		outcomes[i] = word + ": " + listed(by[word])
	}

	return strings.Join(outcomes, "; ")
}

// commit is the commit, who made it, and how long the run took.
func (m Message) commit() string {
	text := (*m.Commit)[:min(7, len(*m.Commit))]
	if m.Subject != nil {
		text += " " + *m.Subject
	}
	if m.Author != nil {
		text += ", by " + *m.Author
	}
	if m.TookMs != nil {
		text += fmt.Sprintf(", took %v", (time.Duration(*m.TookMs) * time.Millisecond).Round(100*time.Millisecond))
	}

	return text
}
