package agefile_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
)

// TestInterop goes both ways with the age that is installed; Debian 12 has 1.1.1.
func TestInterop(t *testing.T) {
	if _, err := exec.LookPath("age"); err != nil {
		t.Skip("age is not installed: apt-get install age")
	}
	run := func(in []byte, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = bytes.NewReader(in)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
		}
		return out
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key.txt")
	run(nil, "age-keygen", "-o", key)
	ours := agetest.New(t)
	sshKey := filepath.Join(dir, "id")
	identities := map[string]string{key: string(bytes.TrimSpace(run(nil, "age-keygen", "-y", key))), ours.File: ours.Pub.String()}
	if _, err := exec.LookPath("ssh-keygen"); err == nil {
		run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshKey)
		pub, err := os.ReadFile(sshKey + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		identities[sshKey] = string(bytes.TrimSpace(pub))
	}
	value := bytes.Repeat([]byte("value\x00\n"), 20_000)
	for file, public := range identities {
		rec, err := agefile.ParseRecipient(public)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := agetest.Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, armor := range []bool{false, true} {
			data, err := agefile.Seal(value, []agefile.Recipient{rec, ours.Pub}, agefile.SealOptions{Armor: armor})
			if err != nil {
				t.Fatal(err)
			}
			if got := run(data, "age", "-d", "-i", file); !bytes.Equal(got, value) {
				t.Errorf("age -d of our file (armor %t) gave %d bytes, want %d", armor, len(got), len(value))
			}
			args := []string{"-r", public}
			if armor {
				args = append(args, "-a")
			}
			sealed := run(value, "age", args...)
			if got, err := ids.Open("f", sealed); err != nil || !bytes.Equal(got, value) {
				t.Errorf("Open of age's file (armor %t) = %d bytes, %v", armor, len(got), err)
			}
			if au, err := agefile.Readers(sealed); err != nil || au.Known || au.Stanzas != 1 {
				t.Errorf("Readers of age's file = %+v, %v, want unknown", au, err)
			}
		}
	}
	// An identity that we made is one for age, too.
	made := filepath.Join(dir, "identity.age")
	public := makeIdentity(t, made)[0]
	if got := string(bytes.TrimSpace(run(nil, "age-keygen", "-y", made))); got != public {
		t.Errorf("age-keygen -y of our identity = %s, want %s", got, public)
	}
}
