package fleet_test

import (
	"strings"
	"testing"
)

// A fixed uid and gid reach sysusers and the digest; left out, nothing of either changes.
func TestFixedIDs(t *testing.T) {
	digests := map[string]string{}
	for user, want := range map[string]string{
		"app":                               "g app -\nu app -:app - / -\n",
		"{ name: app }":                     "g app -\nu app -:app - / -\n",
		"{ name: app, uid: 990 }":           "g app -\nu app 990:app - / -\n",
		"{ name: app, gid: 991 }":           "g app 991\nu app -:app - / -\n",
		"{ name: app, uid: 990, gid: 991 }": "g app 991\nu app 990:app - / -\n",
		"{ name: app, group: media, uid: 1, gid: 2}": "g media 2\nu app 1:media - / -\n",
	} {
		b := mustBundle(t, mustLoad(t, small("user: "+user+"\n", nil)), "a")
		if got := fileText(t, b, "/etc/sysusers.d/bellhop-svc.conf"); got != want {
			t.Errorf("user %s: %q, want %q", user, got, want)
		}
		digests[user] = b.Digest
	}
	if digests["app"] != digests["{ name: app }"] || digests["app"] == digests["{ name: app, uid: 990 }"] {
		t.Errorf("digests %v", digests)
	}
}

func TestFixedIDProblems(t *testing.T) {
	for id, want := range map[string]string{
		"0": "uid 0: 0 is root's", "65534": "65534 is nobody's", "65535": "means none", "4294967295": "means none", "4294967296": "want a number", "-1": "want a number",
		"61500": "DynamicUser=", "600000": "containers", "0990": "without leading zeros", "0x10": "want a number", "abc": "want a number", "1_0": "want a number", "''": "want a number",
	} {
		if _, err := loader().Load(t.Context(), small("user: { name: app, uid: "+id+" }\n", nil)); err == nil || !strings.Contains(err.Error(), "services/svc/service.yaml:1:25: uid ") || !strings.Contains(err.Error(), want) {
			t.Errorf("uid %s: %v\nwant %s", id, err, want)
		}
	}

	for other, want := range map[string]string{
		"{ name: bot, uid: 990 }":                           "services/svc/service.yaml:1:25: uid 990 is that of user bot of service other, and here of user app",
		"{ name: bot, gid: 991 }":                           "gid 991 is that of group bot of service other, and here of group app",
		"{ name: bot, group: app, uid: 1, gid: 5 }":         "services other and svc both have the group app, with gid 5 and gid 991: write one gid at both",
		"{ name: bot, group: app }":                         "with gid none and gid 991",
		"{ name: bot, group: app, uid: 1, gid: 991 }":       "",
		"{ name: app, uid: 990, gid: 991, home: /srv/app }": "",
	} {
		_, err := loader().Load(t.Context(), small("user: { name: app, uid: 990, gid: 991, home: /srv/app }\n", map[string]string{"services/other/service.yaml": "user: " + other + "\n"}))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("beside %s: %v\nwant %q", other, err, want)
		}
	}
}
