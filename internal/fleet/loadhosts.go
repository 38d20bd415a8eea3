package fleet

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

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
	report := func(o tree.Object, msg string) { ps = append(ps, &problem.Problem{File: o.Path, Message: msg}) }
	fresh := make(map[string]*inventory.HostFile, len(os))
	for _, o := range os {
		name, isYAML := strings.CutSuffix(o.Name(), ".yaml")
		switch bad := tree.BadObject(o, false); {
		case tree.Ignored(o.Name()):
			continue
		case bad != "":
			report(o, bad)
			continue
		case strings.EqualFold(path.Ext(o.Name()), ".yml"), !isYAML && strings.EqualFold(path.Ext(o.Name()), ".yaml"):
			report(o, "this file is called "+strings.TrimSuffix(o.Name(), path.Ext(o.Name()))+".yaml")
			continue
		case !isYAML || o.Mode.IsDir():
			report(o, "hosts/ holds NAME.yaml, one host each, and nothing else")
			continue
		}

		hash, err := t.FileHash(o.Path)
		if err == tree.ErrTooLarge {
			report(o, err.Error())
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
