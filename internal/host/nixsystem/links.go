package nixsystem

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// Where a NixOS host says which system is which.
const (
	Profile    = "/nix/var/nix/profiles/system" // what the next boot is to bring
	currentSys = "/run/current-system"          // what runs
	bootedSys  = "/run/booted-system"           // what this boot began with
)

// Links are the links of a host at one moment. A path is "" where there is none.
type Links struct {
	Profile string // store path that the system profile leads to
	Number  int64  // of the profile's generation: 42 of system-42-link; 0: none
	Current string
	Booted  string
}

// ReadLinks reads the links of a host.
func ReadLinks(m *machine.Machine) Links {
	l := Links{Profile: follow(m, Profile), Current: follow(m, currentSys), Booted: follow(m, bootedSys)}
	if target, err := os.Readlink(m.At(Profile)); err == nil {
		l.Number = number(path.Base(target))
	}
	return l
}

// State is what Hello tells of the host's system; nil where there is neither a system nor Nix.
func State(m *machine.Machine) *bundle.SystemState {
	l := ReadLinks(m)
	s := bundle.SystemState{Nix: m.Accounts.Command("nix-store"), Current: l.Current, Profile: l.Profile, Booted: l.Booted, Number: l.Number}
	if s == (bundle.SystemState{}) {
		return nil
	}
	return &s
}

// follow is the store path that links lead to from p; "" when they lead to none.
func follow(m *machine.Machine, p string) string {
	const most = 8 // links, of which NixOS has two
	for range most {
		target, err := os.Readlink(m.At(p))
		if err != nil {
			return ""
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(p), target)
		}
		if bundle.IsStorePath(target) {
			return target
		}
		p = target
	}
	return ""
}

// generationLink is the name of a generation of the system profile, beside the profile.
var generationLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^system-([1-9][0-9]{0,15})-link$`) })

func number(link string) int64 {
	m := generationLink().FindStringSubmatch(link)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	return n
}

// generations are the store paths of the system profile's generations, by number.
func generations(m *machine.Machine) (map[int64]string, error) {
	dir := path.Dir(Profile)
	names, err := os.ReadDir(m.At(dir))
	if err != nil {
		return nil, err
	}

	all := map[int64]string{}
	for _, e := range names {
		if n := number(e.Name()); n > 0 {
			all[n] = follow(m, dir+"/"+e.Name())
		}
	}
	return all, nil
}

// inSystem is where a file of a system lies for this process.
func inSystem(m *machine.Machine, system, file string) string {
	return filepath.Join(m.At(system), file)
}
