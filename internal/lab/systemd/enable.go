package systemd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FileState is UnitFileState.
func (m *Systemd) FileState(name string) string {
	dir, path := m.find(name)
	if path == "" {
		return ""
	}

	d := m.parse(name)
	switch {
	case d.Load == "masked" && dir == runtimeDir:
		return "masked-runtime"
	case d.Load == "masked":
		return "masked"
	case dir == generatorDir:
		return "generated"
	}

	for _, in := range []string{adminDir, runtimeDir} {
		if len(m.enablement(name, in)) > 0 {
			return map[string]string{adminDir: "enabled", runtimeDir: "enabled-runtime"}[in]
		}
	}

	if m.Canonical(name) != name {
		return "alias"
	}
	if installs(d) {
		return "disabled"
	}
	if len(d.List("Install.Also")) > 0 {
		return "indirect"
	}

	return "static"
}

func installs(d *Def) bool {
	for _, k := range []string{"WantedBy", "RequiredBy", "UpheldBy", "Alias"} {
		if len(d.List("Install."+k)) > 0 {
			return true
		}
	}
	return false
}

// enablement lists the links in dir that enable a unit.
func (m *Systemd) enablement(name, dir string) (links []string) {
	for _, e := range m.unitDir(dir) {
		p := m.Path(dir + "/" + e.Name())
		switch ext := filepath.Ext(e.Name()); {
		case ext == ".wants" || ext == ".requires":
			if _, err := os.Lstat(p + "/" + name); err == nil {
				links = append(links, p+"/"+name)
			}
		case e.Type()&fs.ModeSymlink != 0 && e.Name() != name && template(e.Name()) == "":
			if target, err := os.Readlink(p); err == nil && filepath.Base(target) == name {
				links = append(links, p)
			}
		}
	}
	return links
}

// enable makes the links that [Install] asks for.
func (m *Systemd) enable(name string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}

	seen[name] = true
	_, path := m.find(name)
	d := m.parse(name)
	switch {
	case path == "":
		return errNoUnitFile(name)
	case d.Load == "masked":
		return errMasked(name)
	}

	for key, suffix := range map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires"} {
		for _, by := range d.List("Install." + key) {
			if err := m.link(path, adminDir+"/"+by+suffix+"/"+name); err != nil {
				return err
			}
		}
	}

	for _, alias := range d.List("Install.Alias") {
		if alias == name {
			continue
		}
		if err := m.link(path, adminDir+"/"+alias); err != nil {
			return err
		}
	}

	for _, also := range d.List("Install.Also") {
		if err := m.enable(also, seen); err != nil {
			return err
		}
	}

	return nil
}

func (m *Systemd) link(target, at string) error {
	p := m.Path(at)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	os.Remove(p)
	return os.Symlink(target, p)
}

// disable removes every link that enables a unit, and those of Also=.
func (m *Systemd) disable(name string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}

	seen[name] = true
	if _, path := m.find(name); path == "" {
		return nil
	}

	for _, l := range m.enablement(name, adminDir) {
		if err := os.Remove(l); err != nil {
			return err
		}
		os.Remove(filepath.Dir(l)) // an empty .wants folder goes too
	}

	for _, also := range m.parse(name).List("Install.Also") {
		if err := m.disable(also, seen); err != nil {
			return err
		}
	}

	return nil
}

// Generate is what the quadlet generator does at each daemon-reload.
func (m *Systemd) Generate() {
	os.RemoveAll(m.Path(generatorDir))
	es, _ := os.ReadDir(m.quadlets)
	for _, e := range es {
		ext := filepath.Ext(e.Name())
		suffix, ok := map[string]string{".container": "", ".kube": "", ".volume": "-volume", ".network": "-network", ".pod": "-pod"}[ext]
		if !ok {
			continue
		}

		bytes, _ := os.ReadFile(filepath.Join(m.quadlets, e.Name()))
		text := string(bytes)
		if ext == ".container" && !containerImage.MatchString(text) {
			continue // "no Image or Rootfs key specified", in the journal alone
		}

		kind := "\n[Service]\nType=notify\nExecStart=/usr/bin/podman run\n"
		if suffix == "-volume" || suffix == "-network" {
			kind = "\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/podman create\n"
		}

		name := strings.TrimSuffix(e.Name(), ext) + suffix + ".service"
		if err := os.MkdirAll(m.Path(generatorDir), 0o755); err != nil {
			continue
		}

		os.WriteFile(m.Path(generatorDir+"/"+name), []byte(text+kind), 0o644)
		d := m.parse(name)
		for _, by := range d.List("Install.WantedBy") {
			m.link(generatorDir+"/"+name, generatorDir+"/"+by+".wants/"+name)
		}
	}
}
