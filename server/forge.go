package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

// A forge is how one kind of git host signs and words its webhooks, read and written. One more forge is one more
// row of forges, and nothing else. Config.Forge, which --forge sets, names the row; "" is github.
type forge struct {
	// authentic says whether the request was made by who knows the secret. It is asked before
	// anything of the body is read.
	authentic func(h http.Header, body, secret []byte) bool
	// event is what kind of event the request tells of, in the words of eventPush and eventPing;
	// any other is answered and ignored.
	event func(h http.Header) string
	// delivery is the id that the forge gave the request.
	delivery func(h http.Header) string
	// push reads the body of a push, which is JSON.
	push func(body []byte) (pushed, error)
	// request is the event that tells of a pull request, or of a merge request.
	request string

	// word is the body of a push as the forge would send it, as far as push reads it. It is encoded as JSON.
	word func(Push) any
	// sign sets the headers of a push with that id and body.
	sign func(h http.Header, id string, body, secret []byte)
}

const (
	eventPush = "push"
	eventPing = "ping"
)

// A pushed is the little of a push that is read, and only to say what to do with the delivery:
// nothing of it is obeyed.
type pushed struct {
	Ref    string    // refs/heads/main
	Before string    // commit that the ref held before the push
	After  string    // commit that it holds now; zeros: it was deleted
	Repo   string    // OWNER/NAME
	Time   time.Time // of the commit After; zero when it was not told
}

func (p pushed) branch() string {
	b, _ := strings.CutPrefix(p.Ref, "refs/heads/")
	return b
}

// githubForge is GitHub, whose headers Forgejo and Gitea send too.
var githubForge = forge{
	authentic: func(h http.Header, body, secret []byte) bool {
		// Exactly one signature of one exact form. A second header never rescues a bad one.
		sigs := h.Values(github.SHA256SignatureHeader)
		if len(sigs) != 1 || !githubSignature.MatchString(sigs[0]) {
			return false
		}
		return github.ValidateSignature(sigs[0], body, secret) == nil
	},
	event:    func(h http.Header) string { return h.Get(github.EventTypeHeader) },
	delivery: func(h http.Header) string { return h.Get(github.DeliveryIDHeader) },
	push:     githubPush,
	request:  "pull_request",

	word: func(p Push) any {
		type repository struct {
			FullName string `json:"full_name"`
		}
		return struct {
			Ref        string     `json:"ref"`
			After      string     `json:"after"`
			Repository repository `json:"repository"`
		}{p.Ref, p.After, repository{p.Repo}}
	},
	sign: func(h http.Header, id string, body, secret []byte) {
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		h.Set(github.EventTypeHeader, "push")
		h.Set(github.DeliveryIDHeader, id)
		h.Set(github.SHA256SignatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	},
}

var forges = map[string]forge{
	"github":  githubForge,
	"forgejo": githubForge,
	"gitea":   githubForge,
	"gitlab":  gitlabForge,
}

// Forges are the names of all forges whose webhooks are read, in order.
func Forges() []string { return slices.Sorted(maps.Keys(forges)) }

// forgeNamed is the forge of that name; "" is github.
func forgeNamed(name string) (forge, error) {
	if name == "" {
		name = "github"
	}
	f, ok := forges[name]
	if !ok {
		return f, fmt.Errorf("forge %q is not known; known are %s", name, strings.Join(Forges(), ", "))
	}
	return f, nil
}

var githubSignature = regexp.MustCompile(`^sha256=[0-9a-f]{64}$`)

var errPayload = errors.New("the body is not the JSON of a webhook")

// githubPush reads a push as GitHub words it. encoding/json keeps nothing of what is not asked
// for, and refuses more than 10,000 levels, so a body costs no more than its bytes.
func githubPush(body []byte) (pushed, error) {
	var p struct {
		Ref        string    `json:"ref"`
		Before     spareText `json:"before"`
		After      string    `json:"after"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
		HeadCommit struct {
			Timestamp spareText `json:"timestamp"`
		} `json:"head_commit"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return pushed{}, errPayload
	}
	if !isObject(body) {
		return pushed{}, errPayload
	}

	at, err := time.Parse(time.RFC3339, string(p.HeadCommit.Timestamp))
	if err != nil {
		at = time.Time{}
	}
	return pushed{Ref: p.Ref, Before: string(p.Before), After: p.After, Repo: p.Repository.FullName, Time: at}, nil
}

// isObject says that JSON is an object: null is JSON too.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// A spareText is a string that can be done without: any other JSON is an empty one.
type spareText string

func (t *spareText) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = spareText(s)
	}
	return nil
}
