package adopt_test

import (
	"strings"
	"testing"

	"bellhop/internal/adopt"
)

const withPasswords = `x-common: &common
  SMTP_PASSWORD: sesame-mail
services:
  app:
    image: "wiki:1"
    environment:
      <<: *common
      DB_PASSWORD: 'sesame $$ it''s'   # of the database
      TOKEN: "sesame\ttoken"
      API_KEY: 12345678
      PASSWORD_FILE: /run/secrets/x
      AUTH_ENABLED: "true"
      SESSION_SECRET: "${SESSION_SECRET}"
      PORT: 80
  db: { image: "db:1", environment: { DB_PASSWORD: sesame-other, ROOT_PASSWORD: sesame-root } }
  job:
    image: "job:1"
    environment:
      - DB_PASSWORD=sesame-other
      - "ROOT_PASSWORD=sesame-root"
      - MODE=fast
`

// A password in the compose file itself becomes a variable whose value is sealed, and every container is defined as before.
func TestAdoptMovesPasswords(t *testing.T) {
	h := newStackHost(t, map[string]string{"compose.yaml": withPasswords, ".env": "SESSION_SECRET=sesame-session\n"}, "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h, "SMTP_PASSWORD", "DB_PASSWORD", "TOKEN", "API_KEY", "ROOT_PASSWORD", "SESSION_SECRET")

	for f, text := range filesOf(t, dir+"/services/wiki") {
		if strings.Contains(text, "sesame") || strings.Contains(text, "12345678") {
			t.Errorf("%s holds what is secret:\n%s", f, text)
		}
	}
	text := filesOf(t, dir+"/services/wiki")["compose.yaml"]
	for _, want := range []string{`DB_PASSWORD: "${DB_PASSWORD_2}"   # of the database`, `TOKEN: "${TOKEN}"`, `API_KEY: "${API_KEY}"`, `{ DB_PASSWORD: "${DB_PASSWORD}", ROOT_PASSWORD: "${ROOT_PASSWORD}" }`,
		`- "DB_PASSWORD=${DB_PASSWORD}"`, `- "ROOT_PASSWORD=${ROOT_PASSWORD}"`, `  SMTP_PASSWORD: "${SMTP_PASSWORD}"`, "PASSWORD_FILE: /run/secrets/x", `AUTH_ENABLED: "true"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	for _, want := range []string{"DB_PASSWORD_2=", `"sesame \$ it's"`, "sesame-other", "sesame-root", "sesame-mail", "sesame-session", "12345678", "TOKEN="} {
		if !strings.Contains(sealed["wiki.env"], want) {
			t.Errorf("no %s in what is sealed:\n%s", want, sealed["wiki.env"])
		}
	}
	if _, err := loaded(t, dir).Bundle("chrysalis"); err != nil {
		t.Error(err)
	}
}

// What people say is no secret stays as it is; nobody is asked of what is none by its name.
func TestAdoptLeavesWhatIsNoPassword(t *testing.T) {
	h := newStackHost(t, map[string]string{"compose.yaml": withPasswords, ".env": "SESSION_SECRET=x\n"}, "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h)
	if text := filesOf(t, dir+"/services/wiki")["compose.yaml"]; text != withPasswords || len(sealed) != 0 {
		t.Errorf("sealed %q, compose file:\n%s", sealed, text)
	}
}

// A value that can't be moved is refused rather than written in clear.
func TestAdoptRefusesPasswordsInClear(t *testing.T) {
	for want, text := range map[string]string{
		"compose.yaml:1 on chrysalis sets DATABASE_URL to a value that is secret, and it is made of variables": "services: { app: { image: \"wiki:1\", environment: { DATABASE_URL: \"pg://me:sesame@${HOST}/db\" } } }\n",
		"sets PASS to a value that is secret, and it is made of variables":                                     "services: { app: { image: \"wiki:1\", environment: { PASS: \"${PASS:-sesame}\" } } }\n",
		"sets PASS to a value that is secret, and its place in the file":                                       "services:\n  app:\n    image: \"wiki:1\"\n    environment:\n      PASS: |\n        sesame\n        more\n",
		"a container reads .env by env_file: too":                                                              "services: { app: { image: \"wiki:1\", env_file: .env, environment: { PASS: sesame } } }\n",
	} {
		h := newStackHost(t, map[string]string{"compose.yaml": text, ".env": "HOST=db\n"}, "wiki|DIR/compose.yaml|")
		_, err := adopt.Read(t.Context(), h.host(), adopt.Options{Dir: h.dir, IsSecret: func(name string, _ bool) (bool, error) { return name != "HOST", nil }})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A private key, or a file that is called like a secret, is asked about, and sealed.
func TestAdoptSealsFilesThatLookSecret(t *testing.T) {
	files := map[string]string{
		"compose.yaml": "services: { app: { image: \"wiki:1\", volumes: [\"./server.key:/k:ro\", \"./site.pem:/p:ro\", \"./tokens.txt:/t:ro\", \"./app.conf:/c:ro\"] } }\n",
		"server.key":   "sesame", "site.pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n", "tokens.txt": "of printers", "app.conf": "listen\n",
	}
	h := newStackHost(t, files, "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h, "server.key", "site.pem")

	got := filesOf(t, dir+"/services/wiki")
	if sealed["wiki-server.key"] != "sesame" || sealed["wiki-site.pem"] != files["site.pem"] || got["server.key.tmpl"] != `{{ key "wiki-server.key" }}` || got["site.pem.tmpl"] == "" {
		t.Errorf("sealed %q, files %q", sealed, got)
	}
	if got["tokens.txt"] != "of printers" || got["app.conf"] != "listen\n" {
		t.Errorf("files %q", got)
	}
	if _, err := loaded(t, dir).Bundle("chrysalis"); err != nil {
		t.Error(err)
	}
}
