// Package yamledit edits bellhop.yaml for people: the lines of a host go in and out, and every comment, blank line and habit of
// indentation stays.
//
// An edit is believed only after the file was parsed before and after and differs in what was meant, so a shape that this
// code does not understand ends in an error that says what to write by hand, never in a file that means something else.
package yamledit

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// AddHost puts a host's fields (in order: name, value, name, value …) below hosts:.
func AddHost(text, name string, fields []string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	} else {
		lines[n-1] += "\n"
	}

	top := slices.IndexFunc(lines, func(l string) bool { return hostsLine.MatchString(l) })
	var out []string
	switch {
	case top < 0:
		out = append(lines, "hosts:\n")
		out = append(out, hostLines("  ", name, fields)...)
	default:
		end, indent := block(lines, top)
		lines[top] = hostsLine.ReplaceAllString(lines[top], "hosts:$2")
		out = slices.Concat(lines[:end], hostLines(indent, name, fields), lines[end:])
	}

	edited := strings.Join(out, "")
	if err := onlyHost(text, edited, name, fields); err != nil {
		return "", err
	}

	return edited, nil
}

// hostsLine is the top-level key, with nothing, {} or a comment behind it.
var hostsLine = regexp.MustCompile(`^hosts:(?:[ \t]*(\{[ \t]*\}|~|null))?([ \t]*(#.*)?\r?\n?)$`)

// block finds where the mapping under line top ends, and how its keys are indented.
func block(lines []string, top int) (end int, indent string) {
	end, indent = top+1, ""
	for i := top + 1; i < len(lines); i++ {
		body := strings.TrimLeft(lines[i], " ")
		white := lines[i][:len(lines[i])-len(body)]
		switch {
		case strings.TrimSpace(body) == "":
			continue
		case white == "" && !strings.HasPrefix(body, "#"):
			return end, orTwo(indent)
		case white == "":
			continue // a comment at the margin belongs to what follows it
		case indent == "" && !strings.HasPrefix(body, "#"):
			indent = white
		}

		end = i + 1
	}
	return end, orTwo(indent)
}

func orTwo(indent string) string {
	if indent == "" {
		return "  "
	}
	return indent
}

func hostLines(indent, name string, fields []string) []string {
	out := []string{indent + scalar(name) + ":\n"}
	for i := 0; i < len(fields); i += 2 {
		out = append(out, indent+indent+fields[i]+": "+scalar(fields[i+1])+"\n")
	}
	return out
}

// scalar writes a string so that YAML reads the same string.
func scalar(s string) string {
	var back any
	if err := yaml.Unmarshal([]byte("k: "+s+"\n"), &back); err == nil {
		if m, ok := back.(map[string]any); ok && m["k"] == s && !strings.ContainsAny(s, "#*!{}[]&'\"") {
			return s
		}
	}
	return fmt.Sprintf("%q", s)
}

// DropHost takes a host's lines out again.
func DropHost(text, name string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	top := slices.IndexFunc(lines, func(l string) bool { return hostsLine.MatchString(l) })
	if top < 0 {
		return "", fmt.Errorf("find %s in bellhop.yaml: it has no hosts", name)
	}

	_, indent := block(lines, top)
	head := regexp.MustCompile(`^` + indent + `["']?` + regexp.QuoteMeta(name) + `["']?:`)
	at := slices.IndexFunc(lines, func(l string) bool { return head.MatchString(l) })
	if at < 0 {
		return "", fmt.Errorf("find %s in bellhop.yaml: there is no such entry below hosts", name)
	}

	end := at + 1
	for i := at + 1; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == "" {
			continue
		}
		if !strings.HasPrefix(lines[i], indent+" ") {
			break
		}
		end = i + 1
	}

	edited := strings.Join(slices.Concat(lines[:at], lines[end:]), "")
	was, is, err := bothHosts(text, edited)
	if err != nil {
		return "", err
	}

	delete(was, name)
	if !reflect.DeepEqual(was, is) {
		return "", fmt.Errorf("take %s out of bellhop.yaml: its shape is unusual; take it out by hand", name)
	}

	return edited, nil
}

// onlyHost proves that edited says what text says, and the new host.
func onlyHost(text, edited, name string, fields []string) error {
	was, is, err := bothHosts(text, edited)
	if err != nil {
		return err
	}
	if _, there := was[name]; there {
		return fmt.Errorf("host %s is in bellhop.yaml already", name)
	}

	want := map[string]any{}
	for i := 0; i < len(fields); i += 2 {
		want[fields[i]] = fields[i+1]
	}

	if !reflect.DeepEqual(is[name], want) {
		return fmt.Errorf("write %s into bellhop.yaml: its shape is unusual; add it by hand", name)
	}

	delete(is, name)
	if !reflect.DeepEqual(was, is) {
		return fmt.Errorf("write %s into bellhop.yaml: its shape is unusual; add it by hand", name)
	}

	return nil
}

// bothHosts parses hosts: of two texts whose rest must mean the same.
func bothHosts(text, edited string) (was, is map[string]any, err error) {
	var before, after map[string]any
	if err := yaml.Unmarshal([]byte(text), &before); err != nil {
		return nil, nil, fmt.Errorf("read bellhop.yaml: %w", err)
	}
	if err := yaml.Unmarshal([]byte(edited), &after); err != nil {
		return nil, nil, fmt.Errorf("edit bellhop.yaml: its shape is unusual; edit it by hand")
	}

	was, is = hostsOf(before), hostsOf(after)
	delete(before, "hosts")
	delete(after, "hosts")
	if len(before)+len(after) > 0 && !reflect.DeepEqual(before, after) {
		return nil, nil, fmt.Errorf("edit bellhop.yaml: its shape is unusual; edit it by hand")
	}

	return was, is, nil
}

func hostsOf(doc map[string]any) map[string]any {
	if m, ok := doc["hosts"].(map[string]any); ok {
		return m
	}
	return map[string]any{}
}
