package fleet

import (
	"errors"
	"io/fs"
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
	mainHash, err := mainHashOf(t)
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

	id := configID(mainHash, own, problems)
	c.hostsHash = hostsHash
	if c.last != nil && c.last.config.Hash == id {
		c.config = c.last.config
	}
	if c.config != nil && c.config.Hash == id {
		c.mainHash = mainHash
		return c.config, nil
	}

	if err := l.readMain(t, mainHash); err != nil {
		return nil, err
	}
	cfg := inventory.New(c.main, c.mainFile, own)
	cfg.Problems = append(cfg.Problems, problems...)
	cfg.Hash = id
	c.config, c.mainHash = cfg, mainHash
	return cfg, nil
}

// mainHashOf is the hash of bellhop.yaml, or why the tree has none.
func mainHashOf(t *tree.Tree) (string, error) {
	hash, err := t.FileHash("bellhop.yaml")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if near := otherName(t, "."); near != "" {
			return "", problem.Problems{{File: near, Message: "this file is called bellhop.yaml"}}
		}
		return "", problem.Problems{{File: "bellhop.yaml", Message: "missing: this is no config repo, or its config is in a folder (--path); `bellhop init` writes one"}}
	case err == tree.ErrTooLarge:
		return "", problem.Problems{{File: "bellhop.yaml", Message: err.Error()}}
	}

	return hash, err
}

// configID is equal for equal bellhop.yaml and files of hosts, with the same problems of the folder.
func configID(mainHash string, own []*inventory.HostFile, ps problem.Problems) string {
	var id strings.Builder
	id.WriteString(mainHash)
	for _, h := range own {
		id.WriteString("\n" + h.Name + "\x00" + h.Source.Hash)
	}
	for _, p := range ps {
		id.WriteString("\n" + p.Error())
	}

	return id.String()
}

// readMain parses bellhop.yaml into the cache, unless that has this content of it.
func (l *Loader) readMain(t *tree.Tree, hash string) error {
	c := &l.cache
	if c.main != nil && c.main.Hash == hash {
		return nil
	}
	data, err := t.Bytes("bellhop.yaml")
	if err != nil {
		return err
	}

	c.main, c.mainFile = &yaml.File{Name: "bellhop.yaml", Data: data, Hash: hash, Former: l.Former}, &syntax.Fleet{}
	if tree.NewBlob(data, false).LFS {
		c.main.Report(problem.Pos{Line: 1, Column: 1}, "a git-lfs pointer, not the file itself")
		return nil
	}
	yaml.Decode(c.main, c.mainFile, l.budget)
	return nil
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
		isNix, err := t.IsNixFolder(o)
		if err != nil {
			return nil, nil, err
		}
		if isNix || tree.Ignored(o.Name()) {
			continue
		}
		if bad := inventory.BadFile(o); bad != "" {
			report(o, bad)
			continue
		}

		h, err := l.hostFile(t, o)
		if err == tree.ErrTooLarge {
			report(o, err.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		fresh[hostTextKey(h.Name, h.Source.Hash)] = h
		out = append(out, h)
	}

	l.cache.hostTexts = fresh
	return out, ps, nil
}

// hostFile is the file of one host, from the cache if it is there. One that is too large is
// tree.ErrTooLarge.
func (l *Loader) hostFile(t *tree.Tree, o tree.Object) (*inventory.HostFile, error) {
	hash, err := t.FileHash(o.Path)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(o.Name(), ".yaml")
	if known := l.cache.hostTexts[hostTextKey(name, hash)]; known != nil {
		return known, nil
	}

	data, err := t.Bytes(o.Path)
	if err != nil {
		return nil, err
	}
	h := &inventory.HostFile{Name: name, Source: &yaml.File{Name: o.Path, Data: data, Hash: hash, Former: l.Former}}
	yaml.Decode(h.Source, &h.Parsed, l.budget)
	return h, nil
}

// hostTextKey is the key of a host's file in the cache.
func hostTextKey(name, hash string) string { return name + "\x00" + hash }
