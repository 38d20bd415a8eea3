package real

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Journal reads the host's journal with journalctl.
type Journal struct{}

const (
	journalBytes = 512 << 10       // that are read for one question
	syncTime     = 3 * time.Second // that journald may take to write what units have said
)

var (
	invocationID = regexp.MustCompile(`^[0-9a-f]{32}$`)
	plainUnit    = regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*$`)
)

// Lines are the last lines of a unit's life, what systemd said of it among them.
func (Journal) Lines(ctx context.Context, unit, invocation string, most int) []string {
	args := []string{"-q", "--no-pager", "-r", "-o", "json", "--output-fields=MESSAGE", "-n", strconv.Itoa(most)}
	switch {
	case invocationID.MatchString(invocation):
		args = append(args, "_SYSTEMD_INVOCATION_ID="+invocation, "+", "INVOCATION_ID="+invocation)
	case invocation == "" && plainUnit.MatchString(unit):
		args = append(args, "-b", "-u", unit)
	default:
		return nil
	}

	// What a program said last, before it died, may still be on its way.
	wait, cancel := context.WithTimeout(ctx, syncTime)
	exec.CommandContext(wait, "journalctl", "--sync").Run()
	cancel()

	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	lines := readEntries(out, most)
	cancel() // there may be more, which nobody reads
	cmd.Wait()
	return lines
}

// readEntries reads journalctl's JSON, the newest entry first, and returns the last lines in the
// order in which they were said.
func readEntries(r io.Reader, most int) []string {
	var lines []string
	in := bufio.NewReader(io.LimitReader(r, journalBytes))
	for len(lines) < most {
		entry, err := in.ReadBytes('\n')
		if err != nil {
			break // what is left of an entry says nothing
		}
		said := strings.Split(strings.TrimRight(message(entry), "\n"), "\n")
		slices.Reverse(said)
		lines = append(lines, said...)
	}
	lines = lines[:min(len(lines), most)]
	slices.Reverse(lines)
	return lines
}

// message is what an entry says. journalctl gives a text, or numbers for bytes that are none, or
// null for a message of more than 4 KiB.
func message(entry []byte) string {
	var e struct {
		Message json.RawMessage `json:"MESSAGE"`
	}
	if json.Unmarshal(entry, &e) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(e.Message, &text) == nil && string(e.Message) != "null" {
		return text
	}
	var numbers []int
	if json.Unmarshal(e.Message, &numbers) != nil || numbers == nil {
		return "(a message of more than 4 KiB: it is in the journal)"
	}
	bytes := make([]byte, 0, len(numbers))
	for _, n := range numbers {
		bytes = append(bytes, byte(n))
	}
	return strings.ToValidUTF8(string(bytes), "�")
}
