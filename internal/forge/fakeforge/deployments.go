package fakeforge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Deployment is one of GitHub's, with its states in their order.
type Deployment struct {
	ID               int64
	Ref, Environment string
	Payload          string // JSON
	States           []string
	Text, LogURL     string // of the newest state
}

// Deployments are all that were made.
func (f *Forge) Deployments() []Deployment {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Deployment
	for _, d := range f.deploys {
		all = append(all, *d)
	}
	return all
}

var deploymentStatuses = regexp.MustCompile(`^/deployments/([0-9]+)/statuses$`)

// deploymentStates are those of https://docs.github.com/en/rest/deployments/statuses.
var deploymentStates = []string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}

func (f *Forge) answerDeployments(r *http.Request, path string) (code int, answer any, err error, ok bool) {
	if f.kind != "github" {
		return 0, nil, nil, false
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	of := deploymentStatuses.FindStringSubmatch(path)
	switch {
	case path == "/deployments" && r.Method == http.MethodGet:
		return http.StatusOK, f.listDeployments(r), nil, true
	case path == "/deployments" && r.Method == http.MethodPost:
		code, answer, err = f.addDeployment(r)
	case of != nil && r.Method == http.MethodPost:
		id, _ := strconv.ParseInt(of[1], 10, 64)
		code, answer, err = f.setDeployment(r, id)
	default:
		return 0, nil, nil, false
	}

	return code, answer, err, true
}

func (f *Forge) listDeployments(r *http.Request) any {
	q := r.URL.Query()
	all := []any{}
	for _, d := range slices.Backward(f.deploys) {
		if d.Ref == q.Get("sha") && d.Environment == q.Get("environment") {
			all = append(all, map[string]any{"id": d.ID, "payload": json.RawMessage(d.Payload)})
		}
	}
	return all
}

// addDeployment takes the fields of https://docs.github.com/en/rest/deployments/deployments#create-a-deployment, which are those
// of go-github's DeploymentRequest.
func (f *Forge) addDeployment(r *http.Request) (int, any, error) {
	var in struct {
		Ref         *string         `json:"ref"`
		Task        string          `json:"task"`
		AutoMerge   *bool           `json:"auto_merge"`
		Contexts    *[]string       `json:"required_contexts"`
		Payload     json.RawMessage `json:"payload"`
		Environment string          `json:"environment"`
		Description string          `json:"description"`
		Transient   bool            `json:"transient_environment"`
		Production  bool            `json:"production_environment"`
	}
	if err := decode(r, &in); err != nil {
		return http.StatusUnprocessableEntity, nil, err
	}

	switch {
	case in.Ref == nil || !sha.MatchString(*in.Ref):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("no ref found for: %v", in.Ref)
	case in.AutoMerge == nil || *in.AutoMerge:
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("auto_merge would merge the default branch into the commit")
	case in.Contexts == nil || len(*in.Contexts) > 0:
		return http.StatusConflict, nil, fmt.Errorf("commit status checks failed: our own status is pending")
	case in.Environment == "" || utf8.RuneCountInString(in.Description) > 140:
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("the environment is missing, or the description too long")
	}

	d := &Deployment{ID: int64(len(f.deploys) + 1), Ref: *in.Ref, Environment: in.Environment, Payload: string(in.Payload)}
	f.deploys = append(f.deploys, d)
	return http.StatusCreated, map[string]any{"id": d.ID}, nil
}

// setDeployment takes the fields of https://docs.github.com/en/rest/deployments/statuses#create-a-deployment-status, less
// target_url, which log_url replaced: those of go-github's DeploymentStatusRequest.
func (f *Forge) setDeployment(r *http.Request, id int64) (int, any, error) {
	var in struct {
		State          string  `json:"state"`
		LogURL         *string `json:"log_url"`
		Description    string  `json:"description"`
		Environment    string  `json:"environment"`
		EnvironmentURL string  `json:"environment_url"`
		AutoInactive   *bool   `json:"auto_inactive"`
	}
	if err := decode(r, &in); err != nil {
		return http.StatusUnprocessableEntity, nil, err
	}

	i := slices.IndexFunc(f.deploys, func(d *Deployment) bool { return d.ID == id })
	switch {
	case i < 0:
		return http.StatusNotFound, nil, fmt.Errorf("no such deployment")
	case !slices.Contains(deploymentStates, in.State):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("state %q is none", in.State)
	case utf8.RuneCountInString(in.Description) > 140, in.LogURL != nil && !strings.HasPrefix(*in.LogURL, "http"):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("the description is too long, or the address none")
	}

	d := f.deploys[i]
	d.States, d.Text, d.LogURL = append(d.States, in.State), in.Description, ""
	if in.LogURL != nil {
		d.LogURL = *in.LogURL
	}

	return http.StatusCreated, map[string]any{"id": len(d.States)}, nil
}
