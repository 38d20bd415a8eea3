package server

// Three strings out of a body that may hold a megabyte of commits: decoding all of it costs
// more than everything else the handler does. So the values that are not wanted are skipped
// by their brackets and quotes, and the reading ends when all three are found.

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errPayload = errors.New("the body is not the JSON of a webhook")

// readPayload reads ref, after and repository.full_name. Of a name that comes twice the first
// one counts.
func readPayload(body []byte) (p payload, err error) {
	left := 3
	err = eachField(body, func(name string, value []byte) (bool, error) {
		switch name {
		case "ref":
			left--
			err = text(value, &p.Ref)
		case "after":
			left--
			err = text(value, &p.After)
		case "repository":
			left--
			err = eachField(value, func(name string, value []byte) (bool, error) {
				if name != "full_name" {
					return true, nil
				}
				return false, text(value, &p.Repo)
			})
		}
		return left > 0, err
	})
	if err != nil {
		return payload{}, err
	}
	return p, nil
}

// text decodes a string; null is none, and anything else an error.
func text(value []byte, into *string) error {
	if *into != "" {
		return nil
	}
	if json.Unmarshal(value, into) != nil {
		return errPayload
	}
	return nil
}

// eachField calls f with the names and values of a JSON object, until f returns false. Names
// are as written: one with escapes in it is none that is looked for here.
func eachField(b []byte, f func(name string, value []byte) (bool, error)) error {
	b = space(b)
	if len(b) == 0 || b[0] != '{' {
		return errPayload
	}
	if b = space(b[1:]); len(b) > 0 && b[0] == '}' {
		return nil
	}
	for {
		n := valueEnd(b)
		if n < 2 || b[0] != '"' {
			return errPayload
		}
		name := string(b[1 : n-1])
		if b = space(b[n:]); len(b) == 0 || b[0] != ':' {
			return errPayload
		}
		b = space(b[1:])
		if n = valueEnd(b); n == 0 {
			return errPayload
		}
		if more, err := f(name, b[:n]); err != nil || !more {
			return err
		}
		switch b = space(b[n:]); {
		case len(b) > 0 && b[0] == '}':
			return nil
		case len(b) == 0 || b[0] != ',':
			return errPayload
		}
		b = space(b[1:])
	}
}

func space(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// valueEnd is where the value at the start of b ends; 0 when it does not.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n == 0 {
				return 0
			}
			if i += n - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i // of a bare word before it
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}

// stringEnd is where the string at the start of b ends; 0 when it does not.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n
		slashes := 0
		for j := i - 1; j > 0 && b[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return 0
}
