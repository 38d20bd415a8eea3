package server

import "testing"

func TestRepoName(t *testing.T) {
	for url, want := range map[string]string{
		"https://github.com/within/hexagone.git":           "within/hexagone",
		"https://github.com/within/hexagone/":              "within/hexagone",
		"https://github.com/within/hexagone.git/":          "within/hexagone",
		"https://user:pass@github.com:443/within/hexagone": "within/hexagone",
		"https://host/git/cadey/conf.git":                  "cadey/conf",
		"https://host/git//cadey//conf.git?x=1#y":          "cadey/conf",
		"http://[2001:db8::1]:3000/a/b/cadey/conf":         "cadey/conf",
		"https://host/a%20b/conf.GIT":                      "a b/conf",
		"git@github.com:within/hexagone.git":               "within/hexagone",
		"git@github.com:/within/hexagone.git":              "within/hexagone",
		"forge:git/within/hexagone":                        "within/hexagone",
		"[git@host:2222]:cadey/conf.git":                   "cadey/conf",
		"ssh://git@forge.example:2222/within/h.git":        "within/h",
		"ssh://git@host:2222/srv/forgejo/cadey/conf.git":   "cadey/conf",
		"ssh://git@[2001:db8::1]:2222/cadey/conf.git":      "cadey/conf",
		"ssh://host/~/conf.git":                            "conf",
		"ssh://host/~git/cadey/conf.git":                   "cadey/conf",
		"git@box:conf.git":                                 "conf",
		"git@box:.git":                                     ".git",
		"git://host/cadey/conf":                            "cadey/conf",
		"/srv/git/x.git":                                   "",
		"./x":                                              "",
		"../a:b":                                           "",
		"dir/a:b":                                          "",
		"file:///x/y":                                      "",
		"FILE:///x/y":                                      "",
		"https://host":                                     "",
		"":                                                 "",
	} {
		if got := RepoName(url); got != want {
			t.Errorf("RepoName(%q) = %q, want %q", url, got, want)
		}
	}
}

func TestSameRepo(t *testing.T) {
	for _, c := range []struct {
		ours, theirs string
		want         bool
	}{
		{"", "any/thing", true},
		{"cadey/conf", "cadey/conf", true},
		{"cadey/conf", "Cadey/Conf", true},
		{"cadey/conf", "cadey/conf.git", true},
		{"git/cadey/conf", "cadey/conf", true},   // --webhook-repo with the path of the forge
		{"cadey/conf", "group/cadey/conf", true}, // a group within a group
		{"cadey/conf.git/", "cadey/conf", true},
		{"conf", "cadey/conf", true}, // ssh to a home: the owner is not told
		{"cadey/conf", "conf", false},
		{"cadey/conf", "evil/conf", false},
		{"cadey/conf", "cadey/conf2", false},
		{"cadey/conf", "xcadey/conf", false},
		{"cadey/conf", "cadey/conf/evil", false},
		{"cadey/conf", "", false},
		{"conf", "", false},
	} {
		if got := sameRepo(c.ours, c.theirs); got != c.want {
			t.Errorf("sameRepo(%q, %q) = %v, want %v", c.ours, c.theirs, got, c.want)
		}
	}
}
