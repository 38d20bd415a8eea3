package secrets_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/edit"
)

// TestCanary takes one value and one private key through every verb and every failure, and looks
// for them in all that was returned and all that was written.
func TestCanary(t *testing.T) {
	dir := ram(t)
	s, a, b := newStore(t)
	const canary = "canary-hunter2-value"
	var said bytes.Buffer
	say := func(v any, err error) { fmt.Fprintf(&said, "%+v %v\n", v, err) }
	say(s.Set("x", []byte(canary), secrets.SetOptions{}))
	say(s.Set("../x", []byte(canary), secrets.SetOptions{}))
	say(s.Set("big", bytes.Repeat([]byte(canary), 1<<17), secrets.SetOptions{}))
	say(s.Edit("x", edit.Editor{Command: "'" + script(t, `echo more >> "$1"`) + "'"}))
	say(s.Edit("x", edit.Editor{Command: "'" + script(t, `exit 3`) + "'"}))
	say(s.List())
	say(s.Who("x"))
	good := []byte(files(t, s.Dir)["secrets/x.age"])
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		v, err := a.IDs.Open("x", bad)
		say(v, err)
		v, err = a.IDs.Open("x", good[:i])
		say(v, err)
	}
	plain := []byte(canary + "\n")
	_, err := a.IDs.Open("x", plain)
	say(nil, err)
	writeFile(t, filepath.Join(s.Dir, "secrets/bad.age"), plain, 0o644)
	say(s.Show("bad"))
	say(s.Rekey())
	say(secrets.Verify(t.Context(), s.Tree(), secrets.Check{Rules: s.Rules, IDs: b.IDs}), nil)
	say(secrets.CheckPush(t.Context(), nil, s.Tree(), s.Rules), nil)
	key := writeFile(t, filepath.Join(t.TempDir(), "k"), []byte(a.Priv+canary), 0o600)
	say(agefile.Sources{Files: []string{key}}.Load())
	s.Rules.Names["a"] = []string{a.Priv}
	say(s.Rules.Readers("secrets/x.age"))
	say(s.Rules.Check(), nil)
	s.Rules.Rules = []secrets.Rule{{Pattern: "secrets/*", Readers: []string{a.Priv}}}
	say(s.Rules.Readers("secrets/x.age"))
	say(s.Rules.Check(), nil)

	out := said.String()
	for f, v := range files(t, s.Dir) {
		if f != "secrets/bad.age" { // the one that we planted
			out += v
		}
	}
	for _, v := range files(t, dir) {
		out += v
	}
	for _, v := range []string{canary, a.Priv, a.Priv[:40]} {
		for name, form := range map[string]string{"raw": v, "base64": base64.RawStdEncoding.EncodeToString([]byte(v)), "hex": hex.EncodeToString([]byte(v)), "bytes": strings.Trim(fmt.Sprint([]byte(v)), "[]")} {
			if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
				t.Errorf("a secret came out (%s, %d letters)", name, len(v))
			}
		}
	}
	if !strings.Contains(files(t, s.Dir)["secrets/bad.age"], canary) {
		t.Error("the sweep sees nothing: the planted value was not found")
	}
}
