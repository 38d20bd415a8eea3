package service

import (
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/unitfile"
)

// A claim is one place on a host that a service takes. Two services on one host may claim
// the same only when they mean the same.
type claim struct {
	place string // a path, "user NAME", "unit NAME"
	same  string // claims with an equal one get along; "" with nobody
	what  string // for people
	at    problem.Pos
	file  string
}

// source distinguishes c from other: by what it is, or by its file where both are called the same, as
// a file and the template of that file are.
func (c claim) source(other holder) string {
	if c.what == other.what && c.file != "" {
		return c.file
	}
	return c.what
}

// claimed lists what s takes, in no order.
func (s *Service) claimed() []claim {
	var cs []claim
	for _, f := range s.Files {
		if f.Template != nil && f.Template.Secret {
			continue // its link is there, and is claimed as a key's
		}
		cs = append(cs, claim{place: f.Path, what: "the file " + f.Path, file: f.Source})
	}

	for _, u := range s.Units {
		cs = append(cs, claim{place: u.Path, what: "the unit file " + u.Path, file: u.Source})
		if !u.IsDropin {
			name := u.Name
			if u.IsQuadlet {
				name = unitfile.Read(u.Blob.Data).Generated(u.Name)
			}
			name = bundle.UserUnit(s.LingersAs(), name)
			cs = append(cs, claim{place: "unit " + name, what: "the unit " + name, file: u.Source})
		}
	}

	for _, k := range s.Keys {
		same := fmt.Sprintf("%+v %s %q", withoutService(k.Key), k.Link, k.Sources)
		what := "the key " + k.Name
		cs = append(cs, claim{place: "key " + k.Name, same: same, what: what, at: k.At})
		unit := syntax.KeyUnitName(k.Name)
		cs = append(cs, claim{place: bundle.UnitDir + "/" + unit, same: same, what: "the unit " + unit + " of key " + k.Name, at: k.At})
		if k.Link != "" {
			cs = append(cs, claim{place: k.Link, same: same, what: "the link " + k.Link, at: k.At})
		}
	}

	if c := s.Compose; c != nil {
		unit := s.Name + ".service"
		cs = append(cs, claim{place: bundle.UnitDir + "/" + unit, what: "the unit of the compose project"}, claim{place: "unit " + unit, what: "the unit of the compose project"},
			claim{place: "project " + c.Project, what: "the compose project " + c.Project, at: s.Def.Compose.Project.At})
	}

	if s.User != nil {
		u := *s.User
		u.Service = ""
		cs = append(cs, claim{place: "user " + u.Name, same: fmt.Sprintf("%+v", u), what: "the user " + u.Name, at: s.Def.User.Name.At})
		cs = append(cs, claim{place: "/etc/sysusers.d/bellhop-" + s.Name + ".conf", what: "bellhop's own snippet"},
			claim{place: "/etc/tmpfiles.d/bellhop-" + s.Name + ".conf", what: "bellhop's own snippet"})
		if s.LingersAs() != "" {
			cs = append(cs, claim{place: bundle.LingerDir + "/" + u.Name, what: "the systemd of user " + u.Name + " (linger)", at: s.Def.User.Name.At})
		}
	}

	return cs
}

func withoutService(k bundle.Key) bundle.Key { k.Service = ""; return k }

// claims checks s against itself.
func (s *reader) claims() { s.Problems = append(s.Problems, Collide([]*Service{s.Service})...) }

// A holder is a claim and who makes it.
type holder struct {
	claim
	by *Service
}

// Collide reports what services on one host take from each other.
func Collide(ss []*Service) (ps problem.Problems) {
	held := map[string]holder{}
	var paths []string
	report := func(h holder, msg string) {
		at, file, data := h.at, h.file, []byte(nil)
		if at.Line > 0 || file == "" {
			file, data = h.by.Source.Name, h.by.Source.Data
		}
		ps = append(ps, problem.At(file, data, at, "%s", msg))
	}

	for _, s := range ss {
		for _, c := range s.claimed() {
			now := holder{c, s}
			was, taken := held[c.place]
			switch {
			case !taken:
				held[c.place] = now
				if strings.HasPrefix(c.place, "/") {
					paths = append(paths, c.place)
				}

			case was.by == s && len(ss) > 1: // reported when s alone was checked
			case was.same != "" && was.same == now.same:
			case was.by == s:
				report(now, fmt.Sprintf("service %s claims %s twice, as %s and as %s", s.Name, c.place, was.source(now), now.source(was)))
			case strings.HasPrefix(c.place, "key ") || strings.HasPrefix(c.place, "user "):
				report(now, fmt.Sprintf("services %s and %s both have %s, and differ in a field of it: make it alike, or call one %s-%s", was.by.Name, s.Name, now.what, s.Name, strings.SplitN(c.place, " ", 2)[1]))
			default:
				report(now, fmt.Sprintf("services %s and %s both claim %s", was.by.Name, s.Name, c.what))
			}
		}
	}

	slices.Sort(paths)
	for _, p := range paths {
		for dir := parent(p); dir != ""; dir = parent(dir) {
			if up, ok := held[dir]; ok && (len(ss) == 1 || up.by != held[p].by) {
				report(held[p], fmt.Sprintf("%s of service %s would be below %s of service %s, which is no folder", held[p].what, held[p].by.Name, up.what, up.by.Name))
			}
		}
	}

	return ps
}

func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return ""
	}
	return p[:i]
}
