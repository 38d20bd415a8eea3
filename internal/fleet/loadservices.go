package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
)

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

		now, err := l.stateOf(t, name, s.Service)
		if err != nil {
			return nil, err
		}
		out[name] = now
	}

	c.services, c.servicesAt, c.secretsAt = out, at, secrets
	return out, nil
}

// stateOf is the state of a service: an earlier one if its sources are as they were, else a new one with
// the renderings that it has.
func (l *Loader) stateOf(t *tree.Tree, name string, s *service.Service) (*serviceState, error) {
	now, err := l.sources(t, s)
	if err != nil {
		return nil, err
	}
	for _, was := range l.earlier(name) {
		if was.Service != s {
			continue
		}
		now.renderer = was.renderer
		if reflect.DeepEqual(was.sources, now.sources) {
			now = was
		}
	}

	if now.renderer == nil {
		now.renderer = render.NewRenderer(s)
	}
	return now, nil
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
		if s.IsNix {
			continue
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
				if files, err = service.MatchSources(t, src); err != nil {
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

// checkAge refuses an age file that went through a change of line ends, or through LFS.
// Whether it opens is another question, and concerns only the hosts that use it.
func (st *serviceState) checkAge(l *Loader, t *tree.Tree, src, hash string) error {
	bad, known := l.cache.ageFiles[hash]
	if !known {
		data, err := t.Bytes(src)
		if err != nil {
			return err
		}
		bad = service.AgeTrouble(data)
		l.cache.ageFiles[hash] = bad
	}

	if bad != "" {
		st.trouble = append(st.trouble, &problem.Problem{File: src, Message: bad})
	}
	return nil
}
