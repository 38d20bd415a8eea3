package nixfleet

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/nixos"
)

// YAML is the hosts of f as bellhop.yaml has them. hostKey gives the key that a host at an address shows, as a line of
// authorized_keys; "" where it is not known.
func (f *Fleet) YAML(hostKey func(address string) string) string {
	var b strings.Builder
	b.WriteString("hosts:\n")

	for _, h := range f.Hosts {
		if h.IsAlone {
			fmt.Fprintf(&b, "  # %s: its deployment.targetHost is null, so it is reached from itself alone\n", scalar(h.Name))
			continue
		}
		b.WriteString("  " + scalar(h.Name) + ":\n")
		line := func(key, value string) { fmt.Fprintf(&b, "    %s: %s\n", key, value) }

		line("address", scalar(h.At()))
		if key := hostKey(h.At()); key != "" {
			line("host_key", key)
		} else {
			fmt.Fprintf(&b, "    # host_key: bellhop host add %s %s@%s tells it\n", word(h.Name), word(h.login()), word(h.At()))
		}
		if h.login() != "root" {
			line("user", scalar(h.User))
		}
		if len(h.Tags) > 0 {
			tags := make([]string, len(h.Tags))
			for i, t := range h.Tags {
				tags[i] = scalar(t)
			}
			line("tags", "["+strings.Join(tags, ", ")+"]")
		}
		line("nixos", scalar(".#"+h.Name))
	}

	return b.String()
}

// At is where h is: its address, or, where none is given, its name.
func (h *Host) At() string {
	if h.Address == "" {
		return h.Name
	}
	return h.Address
}

func (h *Host) login() string {
	if h.User == "" {
		return "root"
	}
	return h.User
}

var (
	plainScalar = regexp.MustCompile(`^(\.#)?[A-Za-z][A-Za-z0-9._-]*(:[0-9]+)?$|^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(:[0-9]+)?$`)
	wordsOfYAML = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
)

// scalar writes s as a text of YAML.
func scalar(s string) string {
	if plainScalar.MatchString(s) && !slices.Contains(wordsOfYAML, strings.ToLower(s)) {
		return s
	}

	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // text always encodes
	}
	return string(quoted)
}

// A Secret is what a person types to seal the value of one key, and what stands in the configuration then.
type Secret struct {
	Key   string
	Hosts []string // that have it
	Type  string   // the command; "" where the file is sealed already
	Nix   string   // the line of the configuration
}

// Secrets are those of all keys, by name. A key that has the same source on several hosts is one secret.
func (f *Fleet) Secrets() []Secret {
	var all []Secret
	at := map[string]int{}
	sources := map[string]map[string]bool{}
	for _, h := range f.Hosts {
		for _, k := range h.Keys {
			if sources[k.Name] == nil {
				sources[k.Name] = map[string]bool{}
			}
			sources[k.Name][k.source(h.Name)] = true
		}
	}

	for _, h := range f.Hosts {
		for _, k := range h.Keys {
			name := k.Name
			if len(sources[k.Name]) > 1 {
				name = h.Name + "/" + k.Name
			}
			id := name + "\x00" + k.source(h.Name)
			if i, has := at[id]; has {
				all[i].Hosts = append(all[i].Hosts, h.Name)
				continue
			}
			at[id] = len(all)
			all = append(all, k.secret(name, h.Name))
		}
	}

	slices.SortStableFunc(all, func(a, b Secret) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// source is the same for keys with the same value: texts are compared by nobody, so those of two hosts are two.
func (k *Key) source(host string) string {
	if k.IsText {
		return "text of " + host
	}
	return k.File + "\x00" + strings.Join(k.Command, "\x00")
}

func (k *Key) secret(name, host string) Secret {
	s := Secret{Key: k.Name, Hosts: []string{host}, Nix: fmt.Sprintf("deployment.keys.%s.keyFile = ./secrets/%s.age;", attribute(k.Attr), name)}
	set := "bellhop secret set " + word(name)
	switch {
	case strings.HasSuffix(k.File, ".age") && !strings.HasPrefix(k.File, "/"):
		s.Nix = ""
	case k.File != "":
		s.Type = set + " < " + word(k.File)
	case len(k.Command) > 0:
		words := make([]string, len(k.Command))
		for i, w := range k.Command {
			words[i] = word(w)
		}
		s.Type = strings.Join(words, " ") + " | " + set
	default:
		s.Type = set + "   # and type the value that stands in the configuration"
	}

	return s
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_'-]*$`)

// attribute is the name of an attribute as the Nix language writes it.
func attribute(name string) string {
	if identifier.MatchString(name) {
		return name
	}
	return nixos.Quote(name)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// word is s as one word of a shell.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Steps are what a person does next, for a terminal: how each key is sealed, and what the flake must have.
func (f *Fleet) Steps() string {
	var b strings.Builder
	if secrets := f.Secrets(); len(secrets) > 0 {
		b.WriteString("\nKeys, in this folder; bellhop read no value:\n")
		for _, s := range secrets {
			s.tell(&b)
		}
	}

	var missing []string
	for _, h := range f.Hosts {
		if !h.IsAlone && !slices.Contains(f.Systems, h.Name) {
			missing = append(missing, h.Name)
		}
	}

	if len(missing) > 0 {
		fmt.Fprintf(&b, "\nflake.nix must have nixosConfigurations for %s, made of the same modules and bellhop-host.nix:\n"+
			"  docs/from-nixops.md and docs/from-colmena.md of bellhop show one that reads your file\n", strings.Join(missing, ", "))
	}

	return b.String()
}

func (s *Secret) tell(b *strings.Builder) {
	fmt.Fprintf(b, "  %s of %s\n", s.Key, strings.Join(s.Hosts, ", "))
	if s.Nix == "" {
		b.WriteString("    is an age file in the repo already: bellhop secret rekey seals it for your readers\n")
		return
	}

	fmt.Fprintf(b, "    %s\n    %s\n", s.Type, s.Nix)
}
