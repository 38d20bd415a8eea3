package real

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/nameshape"
)

// Journal reads the host's journal with journalctl.
type Journal struct{}

const (
	journalBytes = 512 << 10       // that are read for one question
	syncTime     = 3 * time.Second // that journald may take to write what units have said
)

var (
	invocationID = nameshape.Of("0-9a-f", 32)
	plainUnit    = nameshape.New(`A-Za-z0-9:_.\@`, `A-Za-z0-9:_.\@-`, 255)
)

// Lines are the last lines of a unit's life, what systemd said of it among them. journald takes what
// a program said shortly before it was restarted for a word of the next life: so where only systemd
// is heard, the lines of all lives since a moment are given.
func (Journal) Lines(ctx context.Context, unit, invocation string, since time.Time, most int) []string {
	user, unit := bundle.SplitUnit(unit)
	if !plainUnit.MatchString(unit) {
		return nil
	}

	// What a program said last, before it died, may still be on its way.
	wait, cancel := context.WithTimeout(ctx, syncTime)
	exec.CommandContext(wait, "journalctl", "--sync").Run()
	cancel()

	if user != "" {
		return linesOfUser(ctx, user, unit, invocation, since, most)
	}

	var ofSystemd []string
	if len(invocation) == 32 && invocationID.MatchString(invocation) {
		lines, heard := query(ctx, most, "_SYSTEMD_INVOCATION_ID="+invocation, "+", "INVOCATION_ID="+invocation)
		if heard {
			return lines
		}
		ofSystemd = lines
	}

	which := []string{"-b", "-u", unit}
	if !since.IsZero() {
		which = append(which, fmt.Sprintf("--since=@%d.%06d", since.Unix(), since.Nanosecond()/1000))
	}
	lines, _ := query(ctx, most, which...)
	if len(lines) == 0 { // the clock was set back meanwhile
		return ofSystemd
	}
	return lines
}

// linesOfUser are Lines of a unit of a user's own systemd. Whoever is the user may have written any of them.
func linesOfUser(ctx context.Context, user, unit, invocation string, since time.Time, most int) []string {
	if len(invocation) == 32 && invocationID.MatchString(invocation) {
		if lines, _ := query(ctx, most, "_SYSTEMD_INVOCATION_ID="+invocation, "+", "USER_INVOCATION_ID="+invocation); len(lines) > 0 {
			return lines
		}
	}

	a, there, err := Accounts{}.User(user)
	if err != nil || !there {
		return nil
	}
	which := []string{"-b"}
	if !since.IsZero() {
		which = append(which, fmt.Sprintf("--since=@%d.%06d", since.Unix(), since.Nanosecond()/1000))
	}
	uid := "_UID=" + strconv.Itoa(a.UID)
	lines, _ := query(ctx, most, append(which, "_SYSTEMD_USER_UNIT="+unit, uid, "+", "USER_UNIT="+unit, uid)...)
	return lines
}

// query asks journalctl. heard says that a line is of another than systemd.
func query(ctx context.Context, most int, which ...string) (lines []string, heard bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := append([]string{"-q", "--no-pager", "-r", "-o", "json", "--output-fields=MESSAGE,_PID", "-n", strconv.Itoa(most)}, which...)
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil, false
	}
	lines, heard = readEntries(out, most)
	cancel() // there may be more, which nobody reads
	cmd.Wait()
	return lines, heard
}

// readEntries reads journalctl's JSON, the newest entry first, and returns the last lines in the
// order in which they were said. heard says that one is of another than systemd.
func readEntries(r io.Reader, most int) (lines []string, heard bool) {
	in := bufio.NewReader(io.LimitReader(r, journalBytes))
	for len(lines) < most {
		entry, err := in.ReadBytes('\n')
		if err != nil {
			break // what is left of an entry says nothing
		}
		text, pid := message(entry)
		heard = heard || pid != "1"
		said := strings.Split(strings.TrimRight(text, "\n"), "\n")
		slices.Reverse(said)
		lines = append(lines, said...)
	}
	lines = lines[:min(len(lines), most)]
	slices.Reverse(lines)
	return lines, heard
}

// message is what an entry says, and the process that said it. journalctl gives a text, or numbers for bytes that are none, or
// null for a message of more than 4 KiB.
func message(entry []byte) (text, pid string) {
	var e struct {
		Message json.RawMessage `json:"MESSAGE"`
		PID     string          `json:"_PID"`
	}
	if json.Unmarshal(entry, &e) != nil {
		return "", ""
	}
	if json.Unmarshal(e.Message, &text) == nil && string(e.Message) != "null" {
		return text, e.PID
	}
	var numbers []int
	if json.Unmarshal(e.Message, &numbers) != nil || numbers == nil {
		return "(a message of more than 4 KiB: it is in the journal)", e.PID
	}
	bytes := make([]byte, 0, len(numbers))
	for _, n := range numbers {
		bytes = append(bytes, byte(n))
	}
	return strings.ToValidUTF8(string(bytes), "�"), e.PID
}
