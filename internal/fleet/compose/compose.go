// Package compose reads the compose files of a service's folder, on bytes of the commit alone.
//
// A Source says where the files are and which values may be filled in; Read resolves include, extends,
// env_file and label_file within the folder, and gives a Result: what the host is asked for
// (bundle.ComposeProject), which files of the folder travel, and every problem with file and line. compose-go
// parses; whatever it would read by itself, from a disk, a process's environment or a network, is put
// together before it begins, or refused.
//
// The promise: the same bytes and values give the same Result on every machine, and no compose file makes
// Read open anything, or take more memory than its bounds.
package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
)

// Names are what compose looks for in a folder, in the order that it prefers them.
var Names = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}

// MaxFile caps a file that is parsed: a compose file, an env file, a file of labels.
const MaxFile = 256 << 10 // bytes

// Bounds of one project.
const (
	maxServices = 200
	maxFiles    = 64        // that are parsed
	maxNodes    = 100_000   // of YAML, with every alias counted as what it stands for
	maxDepth    = 64        // of lists and mappings in each other
	maxFilled   = 2 << 20   // bytes that variables put into the files
	maxEnv      = 256 << 10 // bytes that an env file comes to
	maxEnvs     = 16 << 20  // bytes that all env files come to, of each service that reads them
)

// A Source is one compose service, as its folder and service.yaml have it.
type Source struct {
	Folder  string   // in the repo: services/wiki
	Service string   // its name
	Project string   // name of the project
	Dir     string   // the project directory on the host
	Files   []string // compose files, relative to Folder
	Env     []string // plain env files, relative to Folder; a later one wins

	EnvKey   string            // name of the key that is a secret env file; "" for none
	Settings map[string]string // by name; they win over env files
	Keys     []string          // names of the keys that the service has
	Placed   []string          // paths on the host of what the service installs elsewhere

	Names []string                          // every file of the folder that may travel, relative, sorted
	Read  func(name string) ([]byte, error) // bytes of one of Names, as they travel; fs.ErrNotExist
	Sum   func(name string) (digest string) // digest of those bytes
	Key   func(name string) string          // the key whose value the file is, of a template that names keys; "" for a plain file
}

// A Result is what a Source comes to.
type Result struct {
	Project  bundle.ComposeProject
	Travels  []string // of Source.Names, sorted: what the project reads or mounts
	EnvFiles []string // of Source.Names, sorted: what env_file: of services and of include: names
	Secrets  []string // of Source.Names, sorted: what secrets: of any of the files names
	Settings []string // names of the settings that it uses, sorted
	Override []byte   // a compose file that makes mounts of keys safe at boot; nil when there is none
	Problems problem.Problems
	Unpinned problem.Problems // images without a digest: warnings, or not, as the network has it
}

// A reading is one Read at work.
type reading struct {
	Source
	out Result

	docs    map[string]*doc // parsed files, by name
	values  values
	travels map[string]bool
	envRead map[string]bool
	inputs  map[string][]string // by compose service: files whose bytes are in its definition
	project *types.Project
	idle    map[string]bool      // compose services with profiles: up does not start them
	sizes   int                  // nodes of all files
	envs    int                  // bytes of all env files, as each service reads them
	open    map[string]bool      // files that are being prepared
	made    int                  // bases so far
	bases   map[[2]string]string // names of services that are extended, by file and service; "" while one is made
}

// quiet keeps compose-go from writing to this process's stderr: what it has to say to people is in its errors.
var quiet = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })

// Read parses the project. The Result has no Project when there is a problem that is no warning.
func Read(src Source) Result {
	quiet()
	r := &reading{Source: src, docs: map[string]*doc{}, travels: map[string]bool{}, envRead: map[string]bool{}, inputs: map[string][]string{}}
	r.values.settings, r.values.secret = src.Settings, src.EnvKey != ""

	r.readEnv()
	if r.load() {
		r.check()
		r.fill()
	}

	r.checkValues()
	r.strays()
	r.out.Travels = slices.Sorted(maps.Keys(r.travels))
	r.out.EnvFiles = slices.Sorted(maps.Keys(r.envRead))
	r.out.Settings = slices.Sorted(maps.Keys(r.values.used))
	if refused(r.out.Problems) {
		r.out.Project = bundle.ComposeProject{}
	}

	return r.out
}

func refused(ps problem.Problems) bool {
	return slices.ContainsFunc(ps, func(p *problem.Problem) bool { return !p.Warning })
}

// load makes one model of the files; false when there is none.
func (r *reading) load() bool {
	details := types.ConfigDetails{WorkingDir: r.Dir, Environment: r.values.known()}
	for _, name := range r.Files {
		d := r.prepare(name, ".")
		if d == nil {
			return false
		}
		r.travels[name] = true
		details.ConfigFiles = append(details.ConfigFiles, d.config())
	}

	model, err := loader.LoadModelWithContext(context.Background(), details, r.options)
	if err == nil {
		dropBases(model)
		r.project, err = loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){r.options}), details)
	}
	if err != nil {
		r.fail(r.Files, err)
		return false
	}
	r.idle = takeIdle(r.project)
	if len(r.project.Services) > maxServices {
		r.reportFile(r.Files[0], "more than %d services in one project", maxServices)
		return false
	}

	return !refused(r.out.Problems)
}

// takeIdle takes the services that no profile switches on as services too: their files travel, so that
// whoever switches one on by hand finds them, and a container of theirs is no stranger to the project.
func takeIdle(p *types.Project) map[string]bool {
	idle := map[string]bool{}
	for name, s := range p.DisabledServices {
		if p.Services == nil {
			p.Services = types.Services{}
		}
		p.Services[name] = s
		idle[name] = true
	}

	p.DisabledServices = nil
	return idle
}

// options are what compose-go may do: no file is read by it, and values come from r alone.
func (r *reading) options(o *loader.Options) {
	o.SetProjectName(r.Project, true)
	o.SkipInclude = true
	o.SkipResolveEnvironment, o.SkipResolveLabels = true, true
	o.MaxNodeVisits = maxNodes
	o.Interpolate.LookupValue = r.values.lookup
}

var (
	placeRule   = regexp.MustCompile(`(?:services|volumes|networks|secrets|configs|include)(?:\.[A-Za-z0-9_/-]+|\[\d+\])+`)
	lineRule    = regexp.MustCompile(`\bline (\d+)\b`)
	serviceRule = regexp.MustCompile(`service "([^"]+)"`)
)

// fail reports what compose-go says of files, at the place that it names.
func (r *reading) fail(files []string, err error) {
	text := strings.TrimSpace(err.Error())
	at := problem.Pos{}
	d := r.docs[files[0]]
	for _, name := range files {
		if strings.Contains(text, name) && r.docs[name] != nil {
			d = r.docs[name]
		}
	}

	if m := lineRule.FindStringSubmatch(text); m != nil {
		fmt.Sscanf(m[1], "%d", &at.Line)
		at.Column = 1
	} else if place := placeRule.FindString(text); place != "" {
		d, at = r.find(strings.FieldsFunc(place, func(c rune) bool { return strings.ContainsRune(".[]", c) }))
	} else if m := serviceRule.FindStringSubmatch(text); m != nil {
		d, at = r.find([]string{"services", m[1]})
	}

	text = strings.TrimPrefix(text, "validating "+d.name+": ")
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(text, " false schema", " is no field that compose knows")
	if r.values.assumed {
		text += "; a variable that neither env: nor settings: set is taken for one of the secret env file, whose values can stand in texts alone"
	}
	r.report(d, at, "%s", text)
}

// report adds a problem at a place of a compose file.
func (r *reading) report(d *doc, at problem.Pos, format string, args ...any) *problem.Problem {
	p := problem.At(path.Join(r.Folder, d.name), d.data, at, format, args...)
	r.out.Problems = append(r.out.Problems, p)
	return p
}

// warn is the same for what refuses nothing.
func (r *reading) warn(d *doc, at problem.Pos, format string, args ...any) {
	r.report(d, at, format, args...).Warning = true
}

// reportFile adds a problem of a whole file of the folder.
func (r *reading) reportFile(name, format string, args ...any) {
	r.out.Problems = append(r.out.Problems, &problem.Problem{File: path.Join(r.Folder, name), Message: fmt.Sprintf(format, args...)})
}

// bytes is one file of the folder that is parsed.
func (r *reading) bytes(name string) ([]byte, error) {
	data, err := r.Source.Read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no %s in %s", name, r.Folder)
	case err != nil:
		return nil, err
	case len(data) > MaxFile:
		return nil, fmt.Errorf("%s is larger than %d KiB", name, MaxFile>>10)
	}

	return data, nil
}

// dir is a folder of the project on the host.
func (r *reading) dir(rel string) string { return path.Join(r.Dir, rel) }

// inside is a path of a compose file, relative to the folder that is named in from, as the name of a file or
// folder in the service's folder. why says why it is none.
func (r *reading) inside(from, file string) (name, why string) {
	switch {
	case file == "":
		return "", "is empty"
	case isRemote(file):
		return "", "is not a file: bellhop fetches nothing for a compose file; put a copy into " + r.Folder
	case strings.HasPrefix(file, "~"):
		return "", "begins with ~: write a path relative to " + r.Folder
	case path.IsAbs(file):
		return "", "is an absolute path: write it relative to " + r.Folder + ", where the file must be"
	case strings.Contains(file, "$"):
		return "", "holds a variable: bellhop reads files by their plain name"
	}

	name = path.Join(from, file)
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", "leaves " + r.Folder + ": put a copy of the file there"
	}
	return name, ""
}

var remoteRule = regexp.MustCompile(`^([a-z][a-z0-9+.-]*://|oci:|git@|github\.com/)`)

// isRemote says whether a path of a compose file means something on a network.
func isRemote(p string) bool { return remoteRule.MatchString(p) || strings.Contains(p, ".git#") }
