package unitfile

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// A Command is one program of an Exec…= line.
type Command struct {
	Path     string // absolute, or a bare name that systemd looks for in /usr/local/sbin … /bin
	Args     []string
	Optional bool // "-": a failure does not count, and a fault of the line makes systemd ignore it
}

// Commands are the programs of an Exec…= value: several are parted by a lone ";".
func Commands(value string) ([]Command, *valueError) {
	parts, e := splitCommands(value)
	if e != nil {
		e.fatal = !strings.HasPrefix(strings.TrimLeft(value, "@:+!"), "-")
		return nil, e
	}

	var commands []Command
	for _, words := range parts {
		c, e := readCommand(words)
		if e != nil {
			e.fatal = !c.Optional
			return commands, e
		}
		commands = append(commands, c)
	}

	return commands, nil
}

// splitCommands parts a value into words, and those at lone semicolons.
func splitCommands(value string) ([][]string, *valueError) {
	words, err := CommandWords(value)
	if err != nil {
		return nil, want("%v", err)
	}

	parts := [][]string{nil}
	for _, w := range words {
		if w == ";" {
			parts = append(parts, nil)
			continue
		}
		if w == `\;` {
			w = ";"
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], w)
	}

	if len(parts) > 1 {
		parts = slices.DeleteFunc(parts, func(p []string) bool { return p == nil }) // a semicolon at an end
	}

	return parts, nil
}

// readCommand reads the words of one command.
func readCommand(words []string) (Command, *valueError) {
	if len(words) == 0 {
		return Command{}, want("there is no program")
	}

	prefixes, path := cutPrefixes(words[0])
	c := Command{Path: path, Args: words[1:], Optional: strings.Contains(prefixes, "-")}

	isDots := path == "." || path == ".."
	isBare := !isDots && len(path) <= 255 && !strings.Contains(path, "/")
	switch {
	case strings.Contains(path, "%"):
		return c, nil // nobody knows yet
	case path == "":
		return c, want("there is no program behind %q", words[0])
	case hasControl(path):
		return c, want("control characters in the path of the program")
	case strings.HasSuffix(path, "/"):
		return c, want("%q is a folder, not a program", path)
	case !isBare && !strings.HasPrefix(path, "/"):
		return c, want("%q is neither an absolute path nor a bare name", path)
	case strings.Contains(prefixes, "@") && len(c.Args) == 0:
		return c, want(`"@" wants the program's own name as the first argument`)
	}

	return c, nil
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// cutPrefixes parts the prefixes of a program from its path, each taken as often as systemd does.
func cutPrefixes(word string) (prefixes, path string) {
	for i := 0; i < len(word); i++ {
		c := word[i]
		seen := strings.Count(word[:i], string(c))
		privileged := strings.Contains(word[:i], "+")
		switch {
		case strings.IndexByte("-@:|", c) >= 0 && seen == 0:
		case c == '+' && seen == 0 && !strings.Contains(word[:i], "!"):
		case c == '!' && seen < 2 && !privileged:
		default:
			return word[:i], word[i:]
		}
	}

	return word, ""
}

func checkCommands(value string) *valueError {
	_, e := Commands(value)
	return e
}
