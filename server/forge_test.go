package server

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"
)

const someCommit = "0123456789012345678901234567890123456789"

func TestGithubPush(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		body string
		want pushed
		ok   bool
	}{
		{push, pushed{Ref: "refs/heads/main", After: someCommit, Repo: "within/hexagone"}, true},
		{` { "x" : [ 1 , {"ref":"no"}, "a\\\"]}" ] , "ref" : "a\u0062" } `, pushed{Ref: "ab"}, true},
		{`{"repository":{"owner":{"full_name":"no"},"full_name":"a/b","x":1},"n":-1.5e3,"after":null}`, pushed{Repo: "a/b"}, true},
		{`{"before":"b","head_commit":{"timestamp":"2026-01-02T04:04:05+01:00"}}`, pushed{Before: "b", Time: at}, true},
		{`{"ref":"r","before":[1],"head_commit":{"timestamp":5}}`, pushed{Ref: "r"}, true},
		{`{"ref":"r","head_commit":null,"repository":null}`, pushed{Ref: "r"}, true},
		{`{}`, pushed{}, true},
		{`{"ref":1}`, pushed{}, false},
		{`{"repository":"x"}`, pushed{}, false},
		{`{"ref"`, pushed{}, false},
		{`{"ref":"a"} x`, pushed{}, false},
		{`{"ref":"a`, pushed{}, false},
		{`[]`, pushed{}, false},
		{``, pushed{}, false},
		{` null`, pushed{}, false},
		{`"ref"`, pushed{}, false},
		{strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), pushed{}, false},
		{`{"ref":"r","x":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}", pushed{Ref: "r"}, true},
	} {
		got, err := githubPush([]byte(c.body))
		same := got.Time.Equal(c.want.Time)
		got.Time, c.want.Time = time.Time{}, time.Time{}
		if got != c.want || !same || (err == nil) != c.ok {
			t.Errorf("githubPush(%.80s) = %+v, %v, want %+v, ok %v", c.body, got, err, c.want, c.ok)
		}
	}
}

// A body that its sender may send, and that is absurd, costs no more than its bytes.
func TestAbsurdPayloads(t *testing.T) {
	const size = MaxLargeBody
	for name, body := range map[string]string{
		"open brackets":   `{"x":` + strings.Repeat("[", size-5),
		"open objects":    strings.Repeat(`{"a":`, size/5),
		"fields":          `{` + strings.Repeat(`"a":1,`, size/6-1) + `"ref":"r"}`,
		"empty lists":     `{"commits":[` + strings.Repeat("[],", size/3-5) + `[]]}`,
		"one long text":   `{"ref":"` + strings.Repeat("a", size-10) + `"}`,
		"escapes":         `{"ref":"` + strings.Repeat(`\u0000`, size/6-2) + `"}`,
		"form separators": strings.Repeat("&", size),
		"form fields":     strings.Repeat("a=&", size/3),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		kind := "application/json"
		if strings.HasPrefix(name, "form") {
			kind = "application/x-www-form-urlencoded"
		}
		b := []byte(body)
		if b, err := jsonOf(b, kind); err == nil {
			githubPush(b)
			gitlabPush(b)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 8*size {
			t.Errorf("%s: %d MiB allocated for a body of %d", name, grown>>20, size>>20)
		}
	}
}

func TestForgeNames(t *testing.T) {
	for _, name := range []string{"", "github", "forgejo", "gitea", "gitlab"} {
		if _, err := forgeNamed(name); err != nil {
			t.Errorf("forgeNamed(%q) = %v", name, err)
		}
	}
	if _, err := New(Config{Secret: secret, Bell: &bell{}, Forge: "sourceforge"}); err == nil {
		t.Error("New with an unknown forge was accepted")
	}
}

// Whatever is JSON is read as encoding/json reads it.
func FuzzPayload(f *testing.F) {
	f.Add("refs/heads/main", "a/b", []byte(`[1,{"ref":"x"},"\\\""]`))
	f.Add("", "", []byte(`{"timestamp":{}}`))
	f.Fuzz(func(t *testing.T, ref, repo string, other []byte) {
		githubPush(other)
		gitlabPush(other)
		if !json.Valid(other) {
			return
		}
		body, err := json.Marshal(map[string]any{"before": json.RawMessage(other), "ref": ref, "commits": json.RawMessage(other),
			"repository": map[string]any{"a": json.RawMessage(other), "full_name": repo}})
		if err != nil {
			return
		}
		var want struct {
			Ref        string
			Repository struct {
				FullName string `json:"full_name"`
			}
		}
		if err := json.Unmarshal(body, &want); err != nil {
			return
		}
		got, err := githubPush(body)
		if err != nil || got.Ref != want.Ref || got.Repo != want.Repository.FullName {
			t.Errorf("githubPush(%s) = %+v, %v, want %+v", body, got, err, want)
		}
	})
}
