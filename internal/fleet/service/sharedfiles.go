package service

import (
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
)

// A template reads two things of the repo from outside its service: templates below shared/, by
// include, and the public halves that are committed beside secrets, by public. A service that does so
// is read again when they change.

// outsideID names the state of what s reads from outside; "" when it reads nothing.
func (s *Service) outsideID(t *tree.Tree) (string, error) {
	var id string
	if s.usesShared {
		shared, err := t.SharedID()
		if err != nil {
			return "", err
		}
		id += "shared " + shared
	}

	if s.usesPublic {
		public, err := t.PublicsID()
		if err != nil {
			return "", err
		}
		id += "public " + public
	}

	return id, nil
}

// Current says whether what s reads from outside is as it was when s was built.
func (s *Service) Current(t *tree.Tree) (bool, error) {
	id, err := s.outsideID(t)
	return id == s.outside, err
}

// template parses the template at src; what is wrong with it is a problem of the service.
func (s *reader) template(src string, b *tree.Blob) *template.Template {
	return s.parseTemplate(src, string(b.Data), func(at problem.Pos, format string, args ...any) {
		s.Problems = append(s.Problems, problem.At(src, b.Data, at, format, args...))
	})
}

// parseTemplate parses a text of the file at src, and notes what it reads from outside the folder.
func (s *reader) parseTemplate(src, text string, report func(at problem.Pos, format string, args ...any)) *template.Template {
	from := template.Source{Tree: s.Tree, File: src, Text: text, Tell: report}
	from.TellOf = func(p *problem.Problem) { s.Problems = append(s.Problems, p) }
	parsed := from.Parse()

	s.usesShared = s.usesShared || from.UsesShared
	s.usesPublic = s.usesPublic || from.UsesPublic

	return parsed
}
