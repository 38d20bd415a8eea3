package nixos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"

	"bellhop/internal/plain"
)

// A logLine is one line of Nix's log as --log-format internal-json writes it.
type logLine struct {
	Action string            `json:"action"`
	Level  int               `json:"level"`
	ID     uint64            `json:"id"`
	Type   int               `json:"type"`
	Msg    string            `json:"msg"`
	Raw    string            `json:"raw_msg"`
	Fields []json.RawMessage `json:"fields"`
}

// The activities and results of a log that are read.
const (
	activityBuild = 105
	resultLine    = 101
)

const (
	maxLogLine = 8 << 20   // of one line: the keys of a host are in one
	maxLogText = 4 << 10   // of a line that is kept for people
	maxLog     = 512 << 20 // of all that one process may say
)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// readLog reads the log of one process of Nix, line by line. What is no line of the log, such as what a
// program said that Nix started, comes as a message.
func readLog(r io.Reader, each func(logLine)) error {
	lines := bufio.NewReaderSize(io.LimitReader(r, maxLog), 64<<10)
	for {
		line, err := readLine(lines)
		if len(line) > 0 {
			each(parseLogLine(line))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads one line without its end. Of one that is too long the beginning is returned.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line) < maxLogLine {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(line, "\r\n"), err
		}
	}
}

func parseLogLine(line []byte) logLine {
	var l logLine
	rest, ok := bytes.CutPrefix(line, []byte("@nix "))
	if !ok || json.Unmarshal(rest, &l) != nil {
		return logLine{Action: "msg", Msg: string(line)}
	}
	return l
}

// text is what a person reads of a message: without colours, and of an error without the expression that
// bellhop passed.
func (l *logLine) text() string { return colours.ReplaceAllString(l.Msg, "") }

// A tail keeps the last lines of a log.
type tail struct{ lines []string }

func (t *tail) add(text string) {
	for line := range strings.Lines(colours.ReplaceAllString(text, "")) {
		if line = strings.TrimRight(plain.Text(line, maxLogText), " \n"); line == "" {
			continue
		}
		t.lines = append(t.lines, line)
	}

	if extra := len(t.lines) - maxEvidence; extra > 0 {
		t.lines = append([]string(nil), t.lines[extra:]...)
	}
}

// headline is the last error of a log in one line: what stands after the last "error:".
func headline(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		_, after, found := strings.Cut(lines[i], "error:")
		if !found {
			continue
		}
		if after = strings.TrimSpace(after); after != "" {
			return after
		}
		if i+1 < len(lines) {
			return strings.TrimSpace(lines[i+1])
		}
	}

	if len(lines) > 0 {
		return lines[len(lines)-1]
	}
	return ""
}
