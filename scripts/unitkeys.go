//go:build ignore

// Unitkeys prints internal/unitfile/keys.txt from what scripts/unitkeys gathered: the dumps of two
// versions of systemd, and man pages.
package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A key is one line of the table.
type key struct{ section, name string }

// oldest is the first version of systemd that bellhop supports: what came before it has no date.
const oldest = 245

// undated are keys that share the entry of an older one in the man page, and so its date.
var undated = map[string]int{
	"ExecPaths": 249, "NoExecPaths": 249, "OnSuccessJobMode": 249, "LoadCredentialEncrypted": 250,
	"SetCredentialEncrypted": 250, "UpheldBy": 254, "StartupAllowedCPUs": 252, "StartupAllowedMemoryNodes": 252,
}

// morePodman are keys of podman 5 that its man page does not list: retired ones that it still
// reads, and those that later releases of 5 added.
var morePodman = map[string]string{
	"Container": "RemapUid RemapGid RemapUidSize RemapUsers VolatileTmp HttpProxy Memory ReloadCmd ReloadSignal Retry RetryDelay AppArmor CgroupsMode ServiceName SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelNested SecurityLabelType",
	"Pod":       "RemapUid RemapGid RemapUidSize RemapUsers ExitPolicy HostName Label ServiceName StopTimeout",
	"Kube":      "RemapUid RemapGid RemapUidSize RemapUsers ServiceName",
	"Network":   "ServiceName InterfaceName NetworkDeleteOnStop Label",
	"Volume":    "ServiceName GID UID Image",
	"Image":     "ServiceName Policy Retry RetryDelay",
	"Build":     "ServiceName BuildArg IgnoreFile Memory Retry RetryDelay",
	"Quadlet":   "DefaultDependencies",
}

func main() {
	oldVersion, newVersion, dir := number(os.Args[1]), number(os.Args[2]), os.Args[3]
	was, is := dump(filepath.Join(dir, "old")), dump(filepath.Join(dir, "new"))
	dates := map[string]int{}
	pages, _ := filepath.Glob(filepath.Join(dir, "systemd.*"))
	for _, page := range pages {
		date(page, dates)
	}

	fmt.Printf("# The keys of unit files in systemd %d to %d, and of quadlets in podman 5; made by scripts/unitkeys.\n", oldest, newVersion)
	fmt.Println("# SECTION KEY SINCE UNTIL TYPE: the first and the last version of systemd that has the key (0: any), and")
	fmt.Println("# the type as systemd names it.")

	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, k := range slices.SortedFunc(maps.Keys(all), order) {
		since, until := since(k, dates, oldVersion, was[k] != "", is[k] != ""), 0
		if is[k] == "" {
			until = newVersion - 1
		}
		fmt.Println(k.section, k.name, since, until, strings.ReplaceAll(all[k], " ", ""))
	}
	for _, k := range slices.SortedFunc(maps.Keys(quadlets(filepath.Join(dir, "podman-systemd.unit.5"))), order) {
		fmt.Println(k.section, k.name, 0, 0, "OTHER")
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "unitkeys: %q is no version\n", s)
		os.Exit(2)
	}
	return n
}

func order(a, b key) int { return strings.Compare(a.section+"\x00"+a.name, b.section+"\x00"+b.name) }

// since is the version in which a key came. Where the man page and the older dump disagree, the
// dump counts.
func since(k key, dates map[string]int, old int, inOld, inNew bool) int {
	n := dates[k.name]
	if d, ok := undated[k.name]; ok {
		n = d
	}
	switch {
	case inOld && (n <= oldest || n > old):
		return 0
	case inOld:
		return n
	case n <= old:
		return old + 1
	}
	return n
}

// dump reads what systemd --dump-configuration-items says.
func dump(path string) map[key]string {
	keys, section := map[key]string{}, ""
	for _, line := range lines(path) {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		if name, kind, ok := strings.Cut(line, "="); ok {
			if keys[key{section, name}] == "" {
				keys[key{section, name}] = kind
			}
		}
	}
	return keys
}

var (
	heading = regexp.MustCompile(`\\fI([A-Za-z0-9]+)=`)
	added   = regexp.MustCompile(`^Added in version ([0-9]+)\\&\.`)
)

// date adds the versions in which the keys of a man page came. An entry is a line of keys at depth
// 0, its text is indented; notes deeper inside are of values.
func date(path string, dates map[string]int) {
	depth := 0
	var entry []string
	for _, line := range lines(path) {
		switch {
		case strings.HasPrefix(line, ".RS"):
			depth++
		case strings.HasPrefix(line, ".RE"):
			depth--
		case depth == 0 && strings.HasPrefix(line, `\fI`):
			entry = nil
			for _, m := range heading.FindAllStringSubmatch(line, -1) {
				entry = append(entry, m[1])
			}
		case depth == 1:
			if m := added.FindStringSubmatch(line); m != nil {
				for _, name := range entry {
					if strings.HasPrefix(name, "Assert") {
						continue // one entry for all of them: they came with their conditions
					}
					n := number(m[1])
					if dates[name] == 0 || n < dates[name] {
						dates[name] = n
					}
					if rest, ok := strings.CutPrefix(name, "Condition"); ok {
						dates["Assert"+rest] = n
					}
				}
			}
		}
	}
}

var (
	unitsOf = regexp.MustCompile(`^\.SH .*\[(\w+)\]`)
	option  = regexp.MustCompile(`^\.SS \\fB(\w+)=`)
)

// quadlets reads podman's man page.
func quadlets(path string) map[key]bool {
	keys, section := map[key]bool{}, ""
	for _, line := range lines(path) {
		if strings.HasPrefix(line, ".SH") {
			section = ""
		}
		if m := unitsOf.FindStringSubmatch(line); m != nil {
			section = m[1]
		}
		if m := option.FindStringSubmatch(line); m != nil && section != "" {
			keys[key{section, m[1]}] = true
		}
	}
	for section, names := range morePodman {
		for _, name := range strings.Fields(names) {
			keys[key{section, name}] = true
		}
	}
	return keys
}

func lines(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "unitkeys: %v\n", err)
		os.Exit(1)
	}
	defer f.Close()
	var out []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		out = append(out, scan.Text())
	}
	return out
}
