package keys

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSwapClear(t *testing.T) {
	const head = "Filename\tType\tSize\tUsed\tPriority\n"
	for _, c := range []struct {
		name  string
		swaps string
		files map[string]string
		want  bool
	}{
		{"no swap", head, nil, false},
		{"partition", head + "/dev/sda2 partition 1 0 -2\n", map[string]string{"sys/class/block/sda2/size": "1"}, true},
		{"file", head + "/swapfile file 1 0 -2\n", nil, true},
		{"zram", head + "/dev/zram0 partition 1 0 100\n", nil, false},
		{"dm-crypt", head + "/dev/dm-1 partition 1 0 -2\n", map[string]string{"sys/class/block/dm-1/dm/uuid": "CRYPT-PLAIN-swap\n"}, false},
		{"plain lvm", head + "/dev/dm-2 partition 1 0 -2\n", map[string]string{"sys/class/block/dm-2/dm/uuid": "LVM-x\n", "sys/class/block/dm-2/slaves/sda3/x": ""}, true},
		{"lvm on dm-crypt", head + "/dev/dm-2 partition 1 0 -2\n",
			map[string]string{"sys/class/block/dm-2/dm/uuid": "LVM-x\n", "sys/class/block/dm-2/slaves/dm-0/x": "", "sys/class/block/dm-0/dm/uuid": "CRYPT-LUKS2-y\n"}, false},
		{"one of two clear", head + "/dev/zram0 partition 1 0 100\n/dev/sdb1 partition 1 0 -2\n", nil, true},
	} {
		root := t.TempDir()
		c.files = merge(c.files, map[string]string{"proc/swaps": c.swaps})
		for p, text := range c.files {
			p = filepath.Join(root, p)
			os.MkdirAll(filepath.Dir(p), 0o755)
			if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := swapClear(root); got != c.want {
			t.Errorf("swapClear(%s) = %v, want %v", c.name, got, c.want)
		}
	}
	if swapClear(t.TempDir()) {
		t.Error("swapClear without /proc/swaps = true")
	}
}

func merge(a, b map[string]string) map[string]string {
	if a == nil {
		return b
	}
	for k, v := range b {
		a[k] = v
	}
	return a
}

// A key never goes where a disk may be.
func TestKindOfRefusesDisks(t *testing.T) {
	if kind, err := kindOf("/proc"); err == nil {
		t.Errorf("kindOf(/proc) = %q, want an error", kind)
	}
	dir := t.TempDir()
	if kind, err := mountedAt(dir); kind != "" || err != nil {
		t.Errorf("mountedAt(a bare folder) = %q, %v; want nothing", kind, err)
	}
	link := filepath.Join(dir, "link")
	os.Symlink("/proc", link)
	if _, err := mountedAt(link); err == nil {
		t.Error("standing followed a planted link")
	}
	if kind, err := mountedAt(filepath.Join(dir, "none")); kind != "" || err != nil {
		t.Errorf("mountedAt(nothing) = %q, %v", kind, err)
	}
}

func TestSealedNames(t *testing.T) {
	for _, n := range []string{"", ".", "..", "../x", "a/b", ".new.x", "a\x00"} {
		if checkName(n) == nil {
			t.Errorf("checkName(%q) = nil", n)
		}
	}
	if err := checkName("withinbot.env"); err != nil {
		t.Error(err)
	}
}
