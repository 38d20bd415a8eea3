package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
)

// gitlabForge is GitLab. It does not sign: the secret itself stands in a header, so its webhook must be behind TLS.
var gitlabForge = forge{
	authentic: func(h http.Header, _, secret []byte) bool {
		tokens := h.Values("X-Gitlab-Token")
		if len(tokens) != 1 {
			return false
		}
		// Digests are compared, so that the time tells nothing of the length either.
		got, want := sha256.Sum256([]byte(tokens[0])), sha256.Sum256(secret)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	},
	event: func(h http.Header) string {
		event := h.Get("X-Gitlab-Event")
		switch event {
		case "Push Hook":
			return eventPush
		case "Merge Request Hook":
			return "merge_request"
		}
		return event
	},
	delivery: func(h http.Header) string {
		if id := h.Get("Idempotency-Key"); id != "" { // the same for each attempt
			return id
		}
		return h.Get("X-Gitlab-Event-UUID")
	},
	push:    gitlabPush,
	request: "merge_request",

	word: func(p Push) any {
		type project struct {
			Path string `json:"path_with_namespace"`
		}
		return struct {
			Ref     string  `json:"ref"`
			After   string  `json:"after"`
			Project project `json:"project"`
		}{p.Ref, p.After, project{p.Repo}}
	},
	sign: func(h http.Header, id string, _, secret []byte) {
		h.Set("X-Gitlab-Event", "Push Hook")
		h.Set("X-Gitlab-Event-UUID", id)
		h.Set("X-Gitlab-Token", string(secret))
	},
}

// gitlabPush reads a push as GitLab words it, and the repo of any other event. The time of the commit is not read: it
// stands in a list that may be long.
func gitlabPush(body []byte) (pushed, error) {
	var p struct {
		Ref     spareText `json:"ref"`
		Before  spareText `json:"before"`
		After   spareText `json:"after"`
		Project struct {
			Path string `json:"path_with_namespace"`
		} `json:"project"`
	}
	if err := json.Unmarshal(body, &p); err != nil || !isObject(body) {
		return pushed{}, errPayload
	}
	return pushed{Ref: string(p.Ref), Before: string(p.Before), After: string(p.After), Repo: p.Project.Path}, nil
}
