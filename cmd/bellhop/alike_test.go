package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/gitsync"
	"bellhop/internal/fleet"
)

// What check says of a work tree is what the deployer says of the commit that git makes of it.
func TestCheckAndDeployerJudgeAlike(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	const files = "services/web/files/etc"
	large := `truncate -s 40M `
	for name, c := range map[string]struct {
		script string
		path   string
		want   []string // the files that a problem names
	}{
		"nothing wrong":                {script: ``},
		"a name elsewhere":             {script: `mkdir docs; echo 1 >docs/"$(printf 'caf\351')"; echo 1 >"$(printf '\377')"`},
		"a name in a service":          {script: `mkdir -p ` + files + `; echo 1 >` + files + `/"$(printf 'caf\351')"`, want: []string{files + `/caf\xe9`}},
		"a name at the service's top":  {script: `echo 1 >services/web/"$(printf 'caf\351.service')"`, want: []string{`services/web/caf\xe9.service`}},
		"a name below hosts":           {script: `mkdir hosts; echo 1 >hosts/"$(printf 'caf\351')"`, want: []string{`hosts/caf\xe9`}},
		"a name below secrets":         {script: `mkdir secrets; echo 1 >secrets/"$(printf 'caf\351')"`, want: []string{`secrets/caf\xe9`}},
		"a large file elsewhere":       {script: `mkdir iso; ` + large + `iso/a; ` + large + `top`},
		"a large file in a service":    {script: `mkdir -p ` + files + `; ` + large + files + `/a`, want: []string{files + "/a"}},
		"a large file is ignored":      {script: large + `a.iso; echo a.iso >.gitignore`},
		"a link at the service's top":  {script: `ln -s web.service services/web/b.service`, want: []string{"services/web/b.service"}},
		"a link below files":           {script: `mkdir -p ` + files + `; ln -s /etc/hosts ` + files + `/l`},
		"a submodule in a service":     {script: `mkdir -p services/web/files; git init -q services/web/files/sub; (cd services/web/files/sub; git commit -q --allow-empty -m x)`, want: []string{"services/web/files/sub"}},
		"a submodule elsewhere":        {script: `git init -q sub; (cd sub; git commit -q --allow-empty -m x)`},
		"a deleted file":               {script: `echo bad >services/web/x.bad; git add .; rm services/web/x.bad`},
		"a bad file":                   {script: `echo bad >services/web/x.bad`, want: []string{"services/web/x.bad"}},
		"plaintext below secrets":      {script: `mkdir secrets; echo plain >secrets/x.age`, want: []string{"secrets/x.age"}},
		"in a folder of a larger repo": {script: `mkdir -p infra junk; mv bellhop.yaml services infra/; echo 1 >junk/"$(printf 'caf\351')"; ` + large + `junk/a; echo bad >infra/services/web/x.bad`, path: "infra", want: []string{"services/web/x.bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				file := filepath.Join(dir, name)
				os.MkdirAll(filepath.Dir(file), 0o755)
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("bellhop.yaml", "network: lab\nhosts:\n  kos:\n    address: 192.168.0.12\n    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n    services: { web: true }\n")
			write("services/web/web.service", "[Service]\nExecStart=/usr/bin/true\n[Install]\nWantedBy=multi-user.target\n")
			sh(t, dir, "git init -q -b main; "+c.script)

			tree, ignored, err := readWorkTree(t.Context(), filepath.Join(dir, c.path))
			if err != nil || len(ignored) > 0 {
				t.Fatalf("readWorkTree = %v, %v", ignored, err)
			}
			checked := judged(t, tree)

			sh(t, dir, "git add -A 2>/dev/null; git commit -q -m x")
			repo, err := gitsync.Open(gitsync.Config{URL: dir, Path: c.path, Dir: filepath.Join(t.TempDir(), "repo.git")})
			if err != nil {
				t.Fatal(err)
			}
			defer repo.Close()
			snap, err := repo.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			deployed := judged(t, snap.Tree)

			if !slices.Equal(checked, deployed) {
				t.Errorf("check says %q\nthe deployer %q", checked, deployed)
			}
			var named []string
			for _, text := range checked {
				file, _, _ := strings.Cut(text, ": ")
				named = append(named, file)
			}
			if slices.Sort(named); !slices.Equal(slices.Compact(named), c.want) {
				t.Errorf("problems name %q, want %q: %q", named, c.want, checked)
			}
		})
	}
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@d")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// judged is what refuses a tree, one line a problem.
func judged(t *testing.T, tree fs.FS) []string {
	t.Helper()
	_, problems, err := inspect(t.Context(), &loadFlags{}, tree)
	if err != nil {
		t.Fatal(err)
	}
	found := pushCheck(&fleet.Loader{}, &loadFlags{})(t.Context(), gitsync.Snapshot{}, gitsync.Snapshot{Tree: tree})
	var lines []string
	for _, list := range []fleet.Problems{problems, found} {
		for _, p := range list {
			if p.Warning {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s: %s", p.File, p.Message))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
