package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

// cache is what a loader keeps from tree to tree.
type cache struct {
	config     *inventory.Inventory
	mainHash   string
	main       *yaml.File
	mainFile   *syntax.Fleet
	hostTexts  map[string]*inventory.HostFile // by hash and name
	hostsHash  string
	services   map[string]*serviceState
	servicesAt string // hash of the folder services
	secretsAt  string // hash of the folder secrets
	blobs      map[string]*tree.Blob
	keyDigests map[string]string // by hash of the age file
	ageFiles   map[string]string // hash to what is wrong with the file; "" is nothing
	last       *Fleet            // the newest that loaded without a problem
	tree       atomic.Pointer[tree.Tree]
}

// A serviceState is a service with the state of the secrets it comes from. A new pointer
// means that hosts which have it may differ.
type serviceState struct {
	*service.Service
	renderer *render.Renderer
	sources  map[string]string // age file to its hash; "" when it is missing
	trouble  problem.Problems  // of the sources
}

// state is the inside of a Fleet.
type state struct {
	loader   *Loader
	tree     *tree.Tree
	config   *inventory.Inventory
	services map[string]*serviceState
	slots    []*slot // as Hosts
	view     *template.FleetView
	views    []*template.HostView // as Hosts; nil until a host is looked at
	viewers  []int                // hosts with a template that looks at the fleet
	far      *farFleet            // set: another process made it
	stands   map[string]*render.Composition
	next     atomic.Int32 // see find
}

// A slot is one host's place for its bundle. Fleets share the slots of hosts that nothing
// changed for.
type slot struct {
	host     *inventory.Host
	states   []*serviceState
	renders  []*render.Rendering
	asksArch bool
	made     atomic.Pointer[madeBundle]
	base     *render.Composition // of a far fleet: what the host had before, until the bundle is made
}

type madeBundle struct {
	bundle *Bundle
	arch   string
}

func (l *Loader) newest() fs.FS {
	if t := l.cache.tree.Load(); t != nil {
		return t.FS
	}
	return nil
}

// Load reads tree, within the bounds of a budget. The error is Problems when the config is at fault, all of it at once.
func (l *Loader) Load(ctx context.Context, fsys fs.FS) (*Fleet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Confined != nil {
		return l.loadFar(ctx, fsys)
	}

	defer l.bounded(ctx)()
	f, err := l.load(tree.New(fsys, l.budget))
	if err == nil {
		err = l.budget.Ended()
	}
	if l.budget.IsSpent() { // what was kept of this commit may be cut short
		l.cache.forget()
	}
	if err != nil {
		if ctx.Err() != nil { // the caller's end, and no fault of the commit
			return nil, context.Cause(ctx)
		}
		if p, ended := l.budget.Problem(err); ended {
			return nil, problem.Problems{p}
		}
		return nil, err
	}
	return f, nil
}

// bounded gives the loader a budget until the function that it returns is called.
func (l *Loader) bounded(ctx context.Context) func() {
	l.budget = tree.NewBudget(ctx, l.step)
	return func() { l.budget = nil }
}

// forget drops all but the newest tree, which bundles read from.
func (c *cache) forget() {
	t := c.tree.Load()
	*c = cache{}
	c.tree.Store(t)
}

func (l *Loader) load(t *tree.Tree) (*Fleet, error) {
	c := &l.cache
	if c.blobs == nil {
		c.blobs, c.keyDigests, c.ageFiles = map[string]*tree.Blob{}, map[string]string{}, map[string]string{}
		c.hostTexts = map[string]*inventory.HostFile{}
	}
	var links problem.Problems
	for _, name := range []string{"bellhop.yaml", "hosts", "services", "secrets"} {
		if t.Linked(name) {
			links = append(links, &problem.Problem{File: name, Message: tree.LinkTrouble})
		}
	}
	if len(links) > 0 {
		return nil, links
	}
	cfg, err := l.config(t)
	if err != nil {
		return nil, err
	}
	services, err := l.services(t)
	if err != nil {
		return nil, err
	}
	f := &Fleet{Network: cfg.Network, Deployer: cfg.Deployer, Rollout: cfg.Rollout, Confirm: cfg.Confirm, Isolate: cfg.Isolate, Readers: cfg.Readers}
	f.loader, f.tree, f.config, f.services, f.stands = l, t, cfg, services, map[string]*render.Composition{}
	problems := slices.Clone(cfg.Problems)
	if _, err := fs.Stat(t.FS, "bellhop.yml"); err == nil {
		problems = append(problems, &problem.Problem{File: "bellhop.yml", Message: "this file is called bellhop.yaml, which is there too: remove one of them"})
	}
	var all []*service.Service
	for _, name := range slices.Sorted(maps.Keys(services)) {
		problems = append(problems, services[name].Problems...)
		problems = append(problems, services[name].trouble...)
		all = append(all, services[name].Service)
	}
	problems = append(problems, service.CheckIDs(all)...)
	problems = append(problems, f.assemble(c.last)...)
	problems = append(problems, f.dangling()...)
	refuse, warn := problems.Split()
	for _, w := range warn {
		f.Warnings = append(f.Warnings, *w)
	}
	t.Release()
	if err := refuse.Err(); err != nil && !l.Former {
		return nil, err
	}
	c.last = f
	c.tree.Store(t)
	l.prune()
	return f, nil
}

// config reads bellhop.yaml and hosts/*.yaml, or finds that they are as they were.
func (l *Loader) config(t *tree.Tree) (*inventory.Inventory, error) {
	c := &l.cache
	mainHash, err := t.FileHash("bellhop.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		if near := otherName(t, "."); near != "" {
			return nil, problem.Problems{{File: near, Message: "this file is called bellhop.yaml"}}
		}
		return nil, problem.Problems{{File: "bellhop.yaml", Message: "missing: this is no config repo, or its config is in a folder (--path); `bellhop init` writes one"}}
	}
	if err == tree.ErrTooLarge {
		return nil, problem.Problems{{File: "bellhop.yaml", Message: err.Error()}}
	}
	if err != nil {
		return nil, err
	}
	hostsHash := t.DirHash("hosts")
	known := t.KnowsHashes() && hostsHash == c.hostsHash
	if c.config != nil && mainHash == c.mainHash && known {
		return c.config, nil
	}
	own, problems, err := l.hostFiles(t)
	if err != nil {
		return nil, err
	}
	var id strings.Builder
	id.WriteString(mainHash)
	for _, h := range own {
		id.WriteString("\n" + h.Name + "\x00" + h.Source.Hash)
	}
	for _, p := range problems {
		id.WriteString("\n" + p.Error())
	}
	c.hostsHash = hostsHash
	if c.last != nil && c.last.config.Hash == id.String() {
		c.config = c.last.config
	}
	if c.config != nil && c.config.Hash == id.String() {
		c.mainHash = mainHash
		return c.config, nil
	}
	if c.main == nil || c.main.Hash != mainHash {
		data, err := t.Bytes("bellhop.yaml")
		if err != nil {
			return nil, err
		}
		c.main, c.mainFile = &yaml.File{Name: "bellhop.yaml", Data: data, Hash: mainHash, Former: l.Former}, &syntax.Fleet{}
		if tree.NewBlob(data, false).LFS {
			c.main.Report(problem.Pos{Line: 1, Column: 1}, "a git-lfs pointer, not the file itself")
		} else {
			yaml.Decode(c.main, c.mainFile, l.budget)
		}
	}
	cfg := inventory.New(c.main, c.mainFile, own)
	cfg.Problems = append(cfg.Problems, problems...)
	cfg.Hash = id.String()
	c.config, c.mainHash = cfg, mainHash
	return cfg, nil
}

// otherName is a file of dir that is bellhop.yaml but for its case or its last letters; "" is none.
func otherName(t *tree.Tree, dir string) string {
	os, _ := t.List(dir)
	for _, o := range os {
		lower := strings.ToLower(o.Name())
		if lower == "bellhop.yml" || lower == "bellhop.yaml" {
			return o.Path
		}
	}
	return ""
}

// hostFiles reads hosts/*.yaml, each once for each content.
func (l *Loader) hostFiles(t *tree.Tree) ([]*inventory.HostFile, problem.Problems, error) {
	os, err := t.List("hosts")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var out []*inventory.HostFile
	var ps problem.Problems
	tell := func(o tree.Object, msg string) { ps = append(ps, &problem.Problem{File: o.Path, Message: msg}) }
	fresh := make(map[string]*inventory.HostFile, len(os))
	for _, o := range os {
		name, isYAML := strings.CutSuffix(o.Name(), ".yaml")
		switch bad := tree.BadObject(o, false); {
		case tree.Ignored(o.Name()):
			continue
		case bad != "":
			tell(o, bad)
			continue
		case strings.EqualFold(path.Ext(o.Name()), ".yml"), !isYAML && strings.EqualFold(path.Ext(o.Name()), ".yaml"):
			tell(o, "this file is called "+strings.TrimSuffix(o.Name(), path.Ext(o.Name()))+".yaml")
			continue
		case !isYAML || o.Mode.IsDir():
			tell(o, "hosts/ holds NAME.yaml, one host each, and nothing else")
			continue
		}
		hash, err := t.FileHash(o.Path)
		if err == tree.ErrTooLarge {
			tell(o, err.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		key := name + "\x00" + hash
		h := l.cache.hostTexts[key]
		if h == nil {
			data, err := t.Bytes(o.Path)
			if err != nil {
				return nil, nil, err
			}
			h = &inventory.HostFile{Name: name, Source: &yaml.File{Name: o.Path, Data: data, Hash: hash, Former: l.Former}}
			yaml.Decode(h.Source, &h.Parsed, l.budget)
		}
		fresh[key] = h
		out = append(out, h)
	}
	l.cache.hostTexts = fresh
	return out, ps, nil
}

// services reads every folder below services that is not as it was.
func (l *Loader) services(t *tree.Tree) (map[string]*serviceState, error) {
	c := &l.cache
	at, secrets := t.DirHash("services"), t.DirHash("secrets")
	sameServices := c.services != nil && at != "" && at == c.servicesAt
	for _, s := range c.services {
		fresh, err := s.Current(t)
		if err != nil {
			return nil, err
		}
		sameServices = sameServices && fresh
	}
	sameSecrets := secrets != "" && secrets == c.secretsAt
	if sameServices && sameSecrets {
		return c.services, nil
	}
	out := map[string]*serviceState{}
	if sameServices {
		for name, s := range c.services {
			out[name] = s
		}
	} else if err := l.folders(t, out); err != nil {
		return nil, err
	}
	for name, s := range out {
		old := c.services[name]
		if old != nil && old.Service == s.Service && sameSecrets {
			out[name] = old
			continue
		}
		now, err := l.sources(t, s.Service)
		if err != nil {
			return nil, err
		}
		for _, was := range l.earlier(name) {
			if was.Service != s.Service {
				continue
			}
			now.renderer = was.renderer
			if reflect.DeepEqual(was.sources, now.sources) {
				now = was
			}
		}
		if now.renderer == nil {
			now.renderer = render.NewRenderer(s.Service)
		}
		out[name] = now
	}
	c.services, c.servicesAt, c.secretsAt = out, at, secrets
	return out, nil
}

// folders lists services/ and reads each.
func (l *Loader) folders(t *tree.Tree, out map[string]*serviceState) error {
	os, err := t.List("services")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from := service.Sources{Tree: t, Known: l.cache.blobs, Former: l.Former, Budget: l.budget}
	var strays problem.Problems
	for _, o := range os {
		if !o.Mode.IsDir() && tree.Ignored(o.Name()) {
			continue
		}
		bad := tree.BadObject(o, false)
		if bad == "" && !o.Mode.IsDir() {
			bad = "services/ holds one folder for each service, and nothing else"
		}
		if bad != "" {
			strays = append(strays, &problem.Problem{File: o.Path, Message: bad})
			continue
		}
		var earlier []*service.Service
		for _, e := range l.earlier(o.Name()) {
			earlier = append(earlier, e.Service)
		}
		s, err := from.Read(o.Name(), earlier)
		if err != nil {
			return err
		}
		out[o.Name()] = &serviceState{Service: s}
	}
	tree.Twins(os, func(a, b tree.Object) {
		strays = append(strays, &problem.Problem{File: b.Path, Message: fmt.Sprintf("differs from %s only by case: "+tree.CaseLost, a.Name())})
	})
	if len(strays) > 0 {
		out[""] = &serviceState{Service: service.Stray(strays)}
	}
	return nil
}

// earlier are the service's newest states: of the last tree, and of the last that loaded
// whole, which a commit that repairs may come back to.
func (l *Loader) earlier(name string) (out []*serviceState) {
	if s := l.cache.services[name]; s != nil {
		out = append(out, s)
	}
	if last := l.cache.last; last != nil {
		if s := last.services[name]; s != nil && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// sources looks at the age files of a service's keys.
func (l *Loader) sources(t *tree.Tree, s *service.Service) (*serviceState, error) {
	st := &serviceState{Service: s, sources: map[string]string{}}
	for _, k := range s.Keys {
		for _, src := range k.Sources {
			files := []string{src}
			if syntax.IsPattern(src) {
				var err error
				if files, err = matchSources(t, src); err != nil {
					return nil, err
				}
			}
			for _, file := range files {
				if err := st.look(l, t, k, file); err != nil {
					return nil, err
				}
			}
		}
	}
	return st, nil
}

// look notes the hash of one age file, and what is wrong with it.
func (st *serviceState) look(l *Loader, t *tree.Tree, k service.Key, src string) error {
	if _, seen := st.sources[src]; seen {
		return nil
	}

	h, err := t.FileHash(src)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		st.trouble = append(st.trouble, service.MissingFile(t, st.Service, k, src))
	case err == tree.ErrTooLarge:
		st.trouble = append(st.trouble, &problem.Problem{File: src, Message: err.Error()})
	case err != nil:
		return err
	case t.Linked(src):
		st.trouble = append(st.trouble, &problem.Problem{File: src, Message: tree.LinkTrouble})
	default:
		if err := st.checkAge(l, t, src, h); err != nil {
			return err
		}
	}
	st.sources[src] = h
	return nil
}

const ageMagic = "age-encryption.org/v1\n"
const ageArmor = "-----BEGIN AGE ENCRYPTED FILE-----"

// checkAge refuses an age file that went through a change of line ends, or through LFS.
// Whether it opens is another question, and concerns only the hosts that use it.
func (st *serviceState) checkAge(l *Loader, t *tree.Tree, src, hash string) error {
	bad, known := l.cache.ageFiles[hash]
	if !known {
		data, err := t.Bytes(src)
		if err != nil {
			return err
		}
		bad = ageTrouble(data)
		l.cache.ageFiles[hash] = bad
	}
	if bad != "" {
		st.trouble = append(st.trouble, &problem.Problem{File: src, Message: bad})
	}
	return nil
}

func ageTrouble(data []byte) string {
	s := string(data)
	if tree.NewBlob(data, false).LFS {
		return "a git-lfs pointer, not the file itself: bellhop does not fetch from LFS"
	}
	head := s
	if !strings.HasPrefix(strings.TrimSpace(s), ageArmor) {
		if i := strings.Index(s, "\n---"); i >= 0 && strings.HasPrefix(s, ageMagic[:len(ageMagic)-1]) {
			head = s[:i+4]
			if rest, _, ok := strings.Cut(s[i+1:], "\n"); ok {
				head = s[:i+1] + rest
			}
		} else {
			head = s[:min(len(s), len(ageMagic)+1)]
		}
	}
	if strings.Contains(head, "\r") {
		return "carriage returns in the age file: git changed its line ends; write `*.age binary` into .gitattributes and seal it anew"
	}
	return ""
}

// Bundle is what the host of that name should hold. The error is Problems that concern this
// host alone. While nothing changes that the host depends on, the same Loader gives the same
// pointer.
func (f *Fleet) Bundle(host string) (*Bundle, error) {
	i, ok := f.find(host)
	if !ok {
		return nil, fmt.Errorf("no host %q in the fleet", host)
	}
	s := f.slots[i]
	if m := s.made.Load(); m != nil && (!s.asksArch || m.arch == f.archOf(s.host)) {
		return m.bundle, nil
	}
	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	arch := f.archOf(s.host)
	if m := s.made.Load(); m != nil && (!s.asksArch || m.arch == arch) {
		return m.bundle, nil
	}
	st, err := f.standOf(i, s, arch, false)
	if err != nil {
		return nil, err
	}
	if len(st.Problems) > 0 {
		var ps problem.Problems
		for _, p := range st.Problems {
			ps = append(ps, forHost(p, host))
		}
		return nil, ps.Sort()
	}
	b := f.bundleOf(st, host, arch)
	s.made.Store(&madeBundle{b, arch})
	return b, nil
}

func (f *Fleet) bundleOf(st *render.Composition, host, arch string) *Bundle {
	b := &Bundle{Manifest: st.Manifest, Digest: st.Digest, st: st, loader: f.loader, tree: f.tree.FS, fleet: f, arch: arch}
	b.Network, b.Host = f.Network, host
	return b
}

func forHost(p *problem.Problem, host string) *problem.Problem {
	q := *p
	q.Host = host
	return &q
}

// standOf is what the services of a host come to, made here or by the process that loaded f.
func (f *Fleet) standOf(i int, s *slot, arch string, partial bool) (*render.Composition, error) {
	if f.far == nil {
		return f.stand(s, arch), nil
	}
	st, err := f.farStand(i, s, arch, partial)
	s.base = nil
	return st, err
}

func (f *Fleet) archOf(h *inventory.Host) string {
	if h.Arch == "" && f.loader.Arch != nil {
		return f.loader.Arch(h.Name)
	}
	return h.Arch
}

// stand is what the slot's services come to, shared by all hosts that have the same.
func (f *Fleet) stand(s *slot, arch string) *render.Composition {
	var key strings.Builder
	if s.asksArch {
		key.WriteString(arch)
	}
	for i, r := range s.renders {
		fmt.Fprintf(&key, " %p %p", r, s.states[i])
	}
	st := f.stands[key.String()]
	if st == nil {
		st = render.Compose(f.loader.opener(), f.tree, s.renders, arch)
		f.stands[key.String()] = st
	}
	return st
}

// opener opens secrets as l does, within the budget of the load under way.
func (l *Loader) opener() *render.Opener {
	return &render.Opener{Open: l.Open, Seal: l.KeyDigest, Digest: l.digest, Digests: l.cache.keyDigests, Budget: l.budget}
}
