package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bellhop/internal/host/machine"
)

// The containers of a project are asked for at the engine's socket where the docker program would ask there too: each call of the
// program takes 25 ms, two are needed for a list, and a run makes two or three lists. The answers are those of the Docker Engine API
// (docs.docker.com/reference/api/engine), GET /containers/json and /containers/ID/json, in any version that has compose.

// maxAnswer is how many bytes one answer of the engine may have. It is what a container of many labels and mounts takes, many times over.
const maxAnswer = 16 << 20

// errGone says that a container which was listed is not there any more.
var errGone = errors.New("the container is gone")

// A socket is the engine's own, with its API.
type socket struct {
	client *http.Client
}

// socket is that of the engine; false where the docker program has to be asked.
func (e Engine) socket() (*socket, bool) {
	p, ok := e.Programs.(machine.DockerSocket)
	if !ok || e.program() != Docker {
		return nil, false
	}
	path := p.DockerSocket()
	if path == "" {
		return nil, false
	}

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &socket{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 1}}}, true
}

// close ends its connection.
func (s *socket) close() { s.client.CloseIdleConnections() }

// get asks for one thing and decodes the answer into v.
func (s *socket) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()

	switch res.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(v)
	case http.StatusNotFound:
		return errGone
	}
	return fmt.Errorf("the engine answers %s to %s", res.Status, path)
}

// inspected are the fields of a container that a State is made from. An environment, which may hold keys, is none of them.
type inspected struct {
	ID           string `json:"Id"`
	Image        string
	RestartCount int
	Config       struct {
		Image  string
		Labels map[string]string
	}
	HostConfig struct {
		RestartPolicy struct{ Name string }
	}
	State struct {
		Status     string
		ExitCode   int
		OOMKilled  bool
		Error      string
		StartedAt  time.Time
		FinishedAt time.Time
		Health     *struct {
			Status string
			Log    []struct{ Output string }
		}
	}
}

// containers are those of a project. errGone: one went away while they were looked at.
func (s *socket) containers(ctx context.Context, project string) ([]State, error) {
	filter, err := json.Marshal(map[string][]string{"label": {labelProject + "=" + project}})
	if err != nil {
		return nil, err
	}
	var listed []struct {
		ID string `json:"Id"`
	}
	if err := s.get(ctx, "/containers/json?all=true&filters="+url.QueryEscape(string(filter)), &listed); err != nil {
		return nil, err
	}

	var all []State
	for _, c := range listed {
		var found inspected
		if err := s.get(ctx, "/containers/"+url.PathEscape(c.ID)+"/json", &found); err != nil {
			return nil, err
		}
		if state := found.state(); !state.OneOff {
			all = append(all, state)
		}
	}

	sortStates(all)
	return all, nil
}

func (c *inspected) state() State {
	labels, now := c.Config.Labels, &c.State
	s := State{ID: c.ID, Service: labels[labelService], Image: c.Image, Ref: c.Config.Image, Hash: labels[labelHash], OneOff: labels[labelOneOff] == "True",
		Status: now.Status, Exit: now.ExitCode, OOM: now.OOMKilled, Error: now.Error,
		Restarts: c.RestartCount, Policy: c.HostConfig.RestartPolicy.Name, Started: now.StartedAt, Finished: now.FinishedAt}
	if now.Health == nil {
		return s
	}

	s.Health = now.Health.Status
	if n := len(now.Health.Log); n > 0 {
		s.Said = now.Health.Log[n-1].Output
	}
	return s
}

func sortStates(all []State) {
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.Service+"\x00"+a.ID, b.Service+"\x00"+b.ID) })
}
