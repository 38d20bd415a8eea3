package containers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// A dockerHost has an engine with a socket, and the docker program, which a test counts the calls of.
type dockerHost struct {
	socket string
	calls  []string
}

func (h *dockerHost) DockerSocket() string { return h.socket }

func (h *dockerHost) Run(_ context.Context, p machine.Program) (machine.Output, error) {
	h.calls = append(h.calls, p.Argv[1])
	if p.Argv[1] == "ps" {
		return machine.Output{Stdout: "cccc\n"}, nil
	}
	return machine.Output{Stdout: `{"ID":"cccc","Service":"told","Status":"running","Started":"2026-11-30T10:00:00Z","Finished":"0001-01-01T00:00:00Z"}` + "\n"}, nil
}

// inspectedJSON is what Docker 26 says of a container at GET /containers/ID/json, without what no State needs.
const inspectedJSON = `{"Id":"%s","Image":"sha256:11","RestartCount":2,"Name":"/x-web-1",
 "State":{"Status":"running","Running":true,"OOMKilled":false,"ExitCode":0,"Error":"","StartedAt":"2026-11-30T10:00:00.5Z","FinishedAt":"0001-01-01T00:00:00Z"%s},
 "HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":0}},
 "Config":{"Image":"tiny:1","Env":["TOKEN=secret"],"Labels":{"com.docker.compose.project":"x","com.docker.compose.service":"%s","com.docker.compose.config-hash":"h","com.docker.compose.oneoff":"%s"}}}`

// engine listens at a socket and answers with containers by id; an id without a text is listed, and gone when it is looked at.
func engine(t *testing.T, ids []string, texts map[string]string) (host *dockerHost, asked *[]string) {
	t.Helper()
	asked = new([]string)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Query().Get("all")+" "+r.URL.Query().Get("filters"))
		var list []map[string]string
		for _, id := range ids {
			list = append(list, map[string]string{"Id": id})
		}
		json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("GET /containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		text := texts[r.PathValue("id")]
		if text == "" {
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
			return
		}
		fmt.Fprint(w, text)
	})

	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return &dockerHost{socket: path}, asked
}

// A list of containers costs no call of the docker program where its socket is there, and has what the program would tell.
func TestContainersBySocket(t *testing.T) {
	health := `,"Health":{"Status":"unhealthy","FailingStreak":3,"Log":[{"Output":"one"},{"Output":"two"}]}`
	host, asked := engine(t, []string{"bbbb", "aaaa", "once"}, map[string]string{
		"aaaa": fmt.Sprintf(inspectedJSON, "aaaa", health, "web", "False"),
		"bbbb": fmt.Sprintf(inspectedJSON, "bbbb", "", "db", "False"),
		"once": fmt.Sprintf(inspectedJSON, "once", "", "web", "True"),
	})
	all, err := containers.Engine{Programs: host}.Containers(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}

	started := time.Date(2026, 11, 30, 10, 0, 0, 5e8, time.UTC)
	db := containers.State{ID: "bbbb", Service: "db", Image: "sha256:11", Ref: "tiny:1", Hash: "h", Status: "running", Restarts: 2, Policy: "always", Started: started}
	web := db
	web.ID, web.Service, web.Health, web.Said = "aaaa", "web", "unhealthy", "two"
	if want := []containers.State{db, web}; !slices.Equal(all, want) {
		t.Errorf("containers %+v\nwant %+v", all, want)
	}
	if len(host.calls) > 0 {
		t.Errorf("the docker program was called: %q", host.calls)
	}
	if want := `true {"label":["com.docker.compose.project=x"]}`; !slices.Equal(*asked, []string{want}) {
		t.Errorf("asked for %q, want %q", *asked, want)
	}
}

// Where the socket does not answer, or a container goes away meanwhile, the docker program is asked: it knows why.
func TestContainersWithoutSocket(t *testing.T) {
	gone, _ := engine(t, []string{"aaaa"}, nil)
	for name, host := range map[string]*dockerHost{
		"another context": {},
		"nobody listens":  {socket: filepath.Join(t.TempDir(), "none.sock")},
		"gone":            gone,
	} {
		all, err := containers.Engine{Programs: host}.Containers(t.Context(), "x")
		if err != nil || len(all) != 1 || all[0].Service != "told" {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
		if got := strings.Join(host.calls, " "); got != "ps inspect" {
			t.Errorf("%s: calls %q", name, got)
		}
	}
}
