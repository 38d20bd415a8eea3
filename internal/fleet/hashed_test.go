package fleet_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"bellhop/internal/fleet"
)

// hashedFS is a tree that knows its hashes, as git's do, and counts the blobs that are read.
type hashedFS struct {
	fstest.MapFS
	hashes map[string]string
	read   map[string]int
}

func hashed(m fstest.MapFS) *hashedFS {
	h := &hashedFS{MapFS: m, hashes: map[string]string{}, read: map[string]int{}}
	below := map[string][]string{}
	for name, f := range m {
		sum := fmt.Sprintf("%x", sha256.Sum256(f.Data))
		h.hashes[name] = sum
		line := fmt.Sprintf("%s %v %s", name, f.Mode, sum)
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			below[dir] = append(below[dir], line)
			if dir == "." {
				break
			}
		}
	}
	for dir, lines := range below {
		slices.Sort(lines)
		h.hashes[dir] = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(lines, "\n"))))
	}
	return h
}

func (h *hashedFS) Hash(name string) (string, bool) { s, ok := h.hashes[name]; return s, ok }

func (h *hashedFS) Open(name string) (fs.File, error) {
	if f, ok := h.MapFS[name]; ok && f.Mode.IsRegular() {
		h.read[name]++
	}
	return h.MapFS.Open(name)
}

func (h *hashedFS) reads() (n int) {
	for _, c := range h.read {
		n += c
	}
	return n
}

// edited is a copy of m with some files changed; "" removes.
func edited(m fstest.MapFS, files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, f := range m {
		out[name] = f
	}
	for name, data := range files {
		if data == "" {
			delete(out, name)
		} else {
			out[name] = file(data)
		}
	}
	return out
}

// bigTree is a repo of about n files in services of twenty files each.
func bigTree(n int) fstest.MapFS {
	m := fstest.MapFS{}
	var hosts strings.Builder
	hosts.WriteString("network: n\nhosts:\n")
	for s := range n / 20 {
		dir := fmt.Sprintf("services/s%03d/", s)
		m[dir+"service.yaml"] = file("description: one of many\nkeys: [k" + fmt.Sprint(s) + "]\n")
		m[dir+fmt.Sprintf("s%03d.service", s)] = file(plainUnit)
		for i := range 17 {
			m[fmt.Sprintf("%sfiles/etc/s%03d/%d.conf", dir, s, i)] = file(fmt.Sprintf("%d of %d\n", i, s))
		}
		m[fmt.Sprintf("secrets/k%d.age", s)] = file(fmt.Sprint("secret ", s))
		fmt.Fprintf(&hosts, "  h%03d: { address: 10.0.%d.%d, host_key: %s, services: { s%03d: true } }\n", s, s/200, s%200+1, hostKey(fmt.Sprint(s)), s)
	}
	m["bellhop.yaml"] = file(hosts.String())
	return m
}

func TestReadsOnlyWhatChanged(t *testing.T) {
	base := bigTree(2000)
	for name, c := range map[string]struct {
		edit    map[string]string
		changed []string // hosts whose bundle differs
		reads   int
	}{
		"nothing":                          {nil, nil, 0},
		"README at the root":               {map[string]string{"README.md": "x"}, nil, 0},
		"README in a service":              {map[string]string{"services/s007/README": "x"}, nil, 0},
		"one file":                         {map[string]string{"services/s007/files/etc/s007/3.conf": "x"}, []string{"h007"}, 1},
		"one secret, looked at and opened": {map[string]string{"secrets/k7.age": "x"}, []string{"h007"}, 2},
		"one unit":                         {map[string]string{"services/s007/s007.service": plainUnit + "# x\n"}, []string{"h007"}, 1},
		"one file gone":                    {map[string]string{"services/s007/files/etc/s007/3.conf": ""}, []string{"h007"}, 0},
		"a new service that nobody has":    {map[string]string{"services/new/new.service": plainUnit}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := loader()
			old, err := l.Load(t.Context(), hashed(base))
			if err != nil {
				t.Fatal(err)
			}
			before := map[string]*fleet.Bundle{}
			for _, h := range old.Hosts {
				before[h.Name] = mustBundle(t, old, h.Name)
			}
			tree := hashed(edited(base, c.edit))
			now, err := l.Load(t.Context(), tree)
			if err != nil {
				t.Fatal(err)
			}
			var changed, other []string
			for _, h := range now.Hosts {
				b := mustBundle(t, now, h.Name)
				if b != before[h.Name] {
					other = append(other, h.Name)
				}
				if b.Digest != before[h.Name].Digest {
					changed = append(changed, h.Name)
				}
			}
			if !slices.Equal(changed, c.changed) || !slices.Equal(other, c.changed) {
				t.Errorf("digests of %v and pointers of %v differ, want %v", changed, other, c.changed)
			}
			var told []string
			for _, h := range now.Changed(old) {
				told = append(told, h.Name)
			}
			if !slices.Equal(told, c.changed) {
				t.Errorf("Changed = %v, want %v", told, c.changed)
			}
			if tree.reads() > c.reads {
				t.Errorf("%d blobs read, want at most %d: %v", tree.reads(), c.reads, tree.read)
			}
		})
	}
}

// A rearmored secret is another file with the same value: no host may change.
func TestRekeyChangesNoDigest(t *testing.T) {
	l := &fleet.Loader{KeyDigest: func(v []byte) string { return string(v) }}
	l.Open = func(t fs.FS, name string) ([]byte, error) {
		p, err := fs.ReadFile(t, name)
		return []byte(strings.ToLower(string(p))), err
	}
	base := designTree()
	old, err := l.Load(t.Context(), hashed(base))
	if err != nil {
		t.Fatal(err)
	}
	was := mustBundle(t, old, "chrysalis").Digest
	now, err := l.Load(t.Context(), hashed(edited(base, map[string]string{"secrets/withinbot.env.age": "token=1"})))
	if err != nil {
		t.Fatal(err)
	}
	if got := mustBundle(t, now, "chrysalis").Digest; got != was {
		t.Errorf("digest changed from %s to %s by a rekey", was, got)
	}
}

// Trees without hashes are read whole, and still keep their bundles.
func TestSamePointerWithoutHashes(t *testing.T) {
	l := loader()
	old, err := l.Load(t.Context(), designTree())
	if err != nil {
		t.Fatal(err)
	}
	a, c := mustBundle(t, old, "lufta"), mustBundle(t, old, "chrysalis")
	now, err := l.Load(t.Context(), edited(designTree(), map[string]string{"services/withinbot/files/etc/within/facts.txt": "new"}))
	if err != nil {
		t.Fatal(err)
	}
	if mustBundle(t, now, "lufta") != a {
		t.Error("lufta has another bundle, though nothing of it changed")
	}
	if mustBundle(t, now, "chrysalis") == c {
		t.Error("chrysalis has the old bundle, though a file of it changed")
	}
	if got := text(t, mustBundle(t, old, "chrysalis"), "/etc/within/facts.txt"); got != "printers are alive\n" {
		t.Errorf("the old bundle now gives %q", got)
	}
}

// A template that looks at the fleet follows other hosts; one that does not stays.
func TestFleetTemplateFollowsOthers(t *testing.T) {
	base := edited(designTree(), map[string]string{
		"services/printerfacts/files/etc/hosts.bellhop.tmpl": "{{ range .Fleet.Hosts }}{{ .Address }} {{ .Name }}\n{{ end }}",
	})
	l := loader()
	old, err := l.Load(t.Context(), hashed(base))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(t, mustBundle(t, old, "chrysalis"), "/etc/hosts.bellhop"), "192.168.0.12 chrysalis\nlufta.lan lufta\n"; got != want {
		t.Errorf("hosts = %q, want %q", got, want)
	}
	lufta := mustBundle(t, old, "lufta")
	for step, to := range []string{"10.0.0.9", "10.0.0.10"} {
		yaml := strings.Replace(designYAML(), "address: lufta.lan", "address: "+to, 1)
		now, err := l.Load(t.Context(), hashed(edited(base, map[string]string{"bellhop.yaml": yaml})))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := text(t, mustBundle(t, now, "chrysalis"), "/etc/hosts.bellhop"), "192.168.0.12 chrysalis\n"+to+" lufta\n"; got != want {
			t.Errorf("step %d: hosts = %q, want %q", step, got, want)
		}
		if mustBundle(t, now, "lufta") != lufta {
			t.Errorf("step %d: lufta's bundle does not come from its address, and changed", step)
		}
	}
}

func TestProblemsDoNotPoisonTheLoader(t *testing.T) {
	l := loader()
	old, err := l.Load(t.Context(), hashed(designTree()))
	if err != nil {
		t.Fatal(err)
	}
	was := mustBundle(t, old, "chrysalis")
	if _, err := l.Load(t.Context(), hashed(edited(designTree(), map[string]string{"services/withinbot/service.yaml": "usr: x\n"}))); err == nil {
		t.Fatal("Load with an unknown field went through")
	}
	if _, err := l.Load(t.Context(), hashed(edited(designTree(), map[string]string{"bellhop.yaml": "network: [\n"}))); err == nil {
		t.Fatal("Load of broken YAML went through")
	}
	now, err := l.Load(t.Context(), hashed(designTree()))
	if err != nil {
		t.Fatal(err)
	}
	if mustBundle(t, now, "chrysalis") != was {
		t.Error("chrysalis has another bundle after a commit that was refused and undone")
	}
}

// A host that joins moves others in the list, and nothing else.
func TestHostsThatComeAndGo(t *testing.T) {
	l := loader()
	base := designTree()
	old, err := l.Load(t.Context(), hashed(base))
	if err != nil {
		t.Fatal(err)
	}
	lufta, chrysalis := mustBundle(t, old, "lufta"), mustBundle(t, old, "chrysalis")
	more := edited(base, map[string]string{"hosts/aaa.yaml": "address: 10.9.9.9\nhost_key: " + hostKey("aaa") + "\n"})
	now, err := l.Load(t.Context(), hashed(more))
	if err != nil {
		t.Fatal(err)
	}
	if len(now.Hosts) != 3 || now.Hosts[0].Name != "aaa" {
		t.Fatalf("hosts %v", now.Hosts)
	}
	if mustBundle(t, now, "lufta") != lufta || mustBundle(t, now, "chrysalis") != chrysalis {
		t.Error("a host that joined gave others new bundles")
	}
	if c := now.Changed(old); len(c) != 1 || c[0].Name != "aaa" {
		t.Errorf("Changed = %v, want aaa", c)
	}
	// and a change that comes after the move finds its hosts
	now, err = l.Load(t.Context(), hashed(edited(more, map[string]string{"services/withinbot/files/etc/within/facts.txt": "new"})))
	if err != nil {
		t.Fatal(err)
	}
	if mustBundle(t, now, "lufta") != lufta || mustBundle(t, now, "chrysalis").Digest == chrysalis.Digest {
		t.Error("the change reached the wrong host")
	}
	back, err := l.Load(t.Context(), hashed(base))
	if err != nil {
		t.Fatal(err)
	}
	if mustBundle(t, back, "lufta") != lufta {
		t.Error("a host that left gave lufta a new bundle")
	}
}

// What one tree gives does not depend on what the loader saw before.
func TestIncrementalEqualsFresh(t *testing.T) {
	base := edited(designTree(), map[string]string{
		"services/printerfacts/files/etc/all.tmpl": "{{ .Host.Name }}{{ range .Fleet.Tagged \"bots\" }} {{ .Name }}{{ .Settings.printerfacts.port }}{{ end }}\n",
	})
	edits := []map[string]string{
		nil,
		{"services/printerfacts/service.yaml": "settings: { port: 81, more: x }\n"},
		{"secrets/withinbot.env.age": "TOKEN=2"},
		{"services/node-exporter/node-exporter.timer": "[Timer]\nOnCalendar=daily\n"},
		{"bellhop.yaml": strings.Replace(designYAML(), "port: 5000", "port: 6000", 1)},
		{"services/withinbot/withinbot.service": noInstall},
		{"hosts/zzz.yaml": "address: 10.9.9.9\nhost_key: " + hostKey("z") + "\narch: arm64\ntags: [bots]\nservices: { printerfacts: true }\n"},
		nil,
	}
	l := loader()
	for step, e := range edits {
		tree := hashed(edited(base, e))
		warm, err := l.Load(t.Context(), tree)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		cold, err := loader().Load(t.Context(), tree)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		for _, h := range cold.Hosts {
			a, b := mustBundle(t, warm, h.Name), mustBundle(t, cold, h.Name)
			if a.Digest != b.Digest {
				t.Errorf("step %d: %s differs between a loader that ran and a fresh one", step, h.Name)
			}
			w, _ := warm.Host(h.Name)
			if fmt.Sprint(w.Settings, w.Tags, w.Services, w.Addresses) != fmt.Sprint(h.Settings, h.Tags, h.Services, h.Addresses) {
				t.Errorf("step %d: host %s is %+v, want %+v", step, h.Name, w, h)
			}
		}
	}
}

// Bundles are made and read by many while the next tree loads.
func TestManyAtOnce(t *testing.T) {
	l := loader()
	base := bigTree(200)
	first, err := l.Load(t.Context(), &plainTree{base})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range len(first.Hosts) {
				h := first.Hosts[(i*7+g)%len(first.Hosts)]
				b, err := first.Bundle(h.Name)
				if err != nil {
					t.Error(err)
					return
				}
				for _, k := range b.Keys {
					if v, err := b.Key(k.Name); err != nil || len(v) == 0 {
						t.Errorf("Key(%s) = %d bytes, %v", k.Name, len(v), err)
					}
				}
			}
		})
	}
	for i := range 5 {
		if _, err := l.Load(t.Context(), &plainTree{edited(base, map[string]string{"services/s003/files/etc/s003/3.conf": fmt.Sprint(i)})}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// plainTree is a tree without hashes or counters, for many readers.
type plainTree struct{ fstest.MapFS }
