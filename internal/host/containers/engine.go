package containers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/plain"
)

// StackUnit is the unit that starts and stops the compose project of a service.
func StackUnit(service string) string { return service + ".service" }

// An Engine is the Docker of a host, or its Podman.
type Engine struct {
	Programs machine.Programs
	Name     string // Docker or Podman; "" is Docker
}

// A State is one container of a project, as the engine has it.
type State struct {
	ID      string
	Service string // of the compose file
	Image   string // id of the image that it runs
	Ref     string // as the image was named when it was created
	Hash    string // of its definition, as compose has it
	OneOff  bool   // of docker compose run

	Status   string // created, running, paused, restarting, removing, exited, dead
	Exit     int
	OOM      bool
	Error    string // why the engine could not start it
	Health   string // "" where it has no healthcheck; starting, healthy, unhealthy
	Said     string // what its healthcheck said last
	Restarts int    // by its restart policy, since it was started
	Policy   string // no, always, unless-stopped, on-failure
	Started  time.Time
	Finished time.Time // zero for one that never ended
}

// Runs says that a container is up, or is on its way there by itself.
func (s *State) Runs() bool {
	return s.Status == "running" || s.Status == "restarting" || s.Status == "paused"
}

// How a container ends whose engine stops it.
const (
	exitKilled     = 137
	exitTerminated = 143
)

// StoppedByHand says that somebody stopped a container: the engine would otherwise run it again, or has
// an exit or an error of it to tell.
func (s *State) StoppedByHand(once bool) bool {
	if s.Status != "exited" || s.Error != "" || s.OOM {
		return false
	}
	if s.Policy == "always" || s.Policy == "unless-stopped" {
		return true
	}

	endedWell := !once && s.Exit == 0
	return endedWell || s.Exit == exitKilled || s.Exit == exitTerminated
}

// stateFormat has docker inspect tell one line of JSON for each container, with nothing in it that the
// bundle does not know: an environment may hold keys. ".Id" is no field of the program's own type, so it
// takes the engine's answer as it is, where a container without a healthcheck has no "Health".
const stateFormat = `{"ID":{{json .Id}},"Image":{{json .Image}},"Ref":{{json .Config.Image}},"Restarts":{{json .RestartCount}},` +
	`"Policy":{{json .HostConfig.RestartPolicy.Name}},"Status":{{json .State.Status}},"Exit":{{json .State.ExitCode}},"OOM":{{json .State.OOMKilled}},` +
	`"Error":{{json .State.Error}},"Started":{{json .State.StartedAt}},"Finished":{{json .State.FinishedAt}},` +
	`"Health":{{with index .State "Health"}}{{json .Status}}{{else}}""{{end}},` +
	`"Said":{{with index .State "Health"}}{{with .Log}}{{json (index . (len (slice . 1))).Output}}{{else}}""{{end}}{{else}}""{{end}},` +
	`"Service":{{json (index .Config.Labels "` + labelService + `")}},"Hash":{{json (index .Config.Labels "` + labelHash + `")}},` +
	`"OneOff":{{eq (index .Config.Labels "` + labelOneOff + `") "True"}}}`

// Labels that compose gives to its containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelHash    = "com.docker.compose.config-hash"
	labelOneOff  = "com.docker.compose.oneoff"
)

// Containers are those of a project, whatever they are called.
func (e Engine) Containers(ctx context.Context, project string) ([]State, error) {
	if s, ok := e.socket(); ok {
		defer s.close()
		if all, err := s.containers(ctx, project); err == nil {
			return all, nil
		}
	}

	return e.listed(ctx, project)
}

// listed are the containers of a project as the docker program tells them, with an error that says what is wrong with the engine.
func (e Engine) listed(ctx context.Context, project string) ([]State, error) {
	for try := 1; ; try++ {
		out, err := e.call(ctx, "ps", "-aq", "--no-trunc", "--filter", "label="+labelProject+"="+project)
		if err != nil {
			return nil, err
		}
		ids := strings.Fields(out)
		if len(ids) == 0 {
			return nil, nil
		}

		text, areThere, err := e.inspect(ctx, ids)
		if err != nil {
			return nil, err
		}
		if areThere || try == mostLists {
			return readStates(text)
		}
	}
}

// mostLists is how often containers are listed of which one is gone when it is looked at: another may have come in its
// place. After that, what is there is what counts.
const mostLists = 3

// inspect looks at containers. It says whether all of them are there, and tells of those that are.
func (e Engine) inspect(ctx context.Context, ids []string) (text string, areThere bool, err error) {
	out, err := e.run(ctx, machine.Program{Argv: append([]string{Docker, "inspect", "-f", stateFormat}, ids...)})
	switch {
	case err != nil:
		return "", false, err
	case out.Exit == 0:
		return out.Stdout, true, nil
	}

	for line := range strings.Lines(strings.TrimSpace(out.Stderr)) {
		if !strings.Contains(strings.ToLower(line), "no such ") {
			return "", false, fmt.Errorf("docker inspect: %s", lastLine(out.Stderr))
		}
	}
	return out.Stdout, false, nil
}

// readStates reads lines of stateFormat. One-off containers are nobody's concern.
func readStates(text string) (all []State, err error) {
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var s State
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, fmt.Errorf("docker inspect says what can't be read: %w", err)
		}
		if !s.OneOff {
			all = append(all, s)
		}
	}

	sortStates(all)
	return all, nil
}

// ImageID is the id of the image that a reference means on the host; "" where there is none.
func (e Engine) ImageID(ctx context.Context, ref string) (string, error) {
	out, err := e.run(ctx, machine.Program{Argv: []string{e.program(), "image", "inspect", "-f", "{{.Id}}", ref}})
	if err != nil || out.Exit != 0 {
		return "", err
	}
	return strings.TrimSpace(out.Stdout), nil
}

// Tag gives an image one more name.
func (e Engine) Tag(ctx context.Context, id, ref string) error {
	_, err := e.call(ctx, "tag", id, ref)
	return err
}

const logsTime = 10 * time.Second // an engine that hangs must not hold the way back

// Logs are the last lines that a container wrote since a moment, in each of its lives, on both its
// outputs; nil for a container that was not created, or of which the engine does not tell in time.
func (e Engine) Logs(ctx context.Context, id string, since time.Time, lines int) []string {
	if id == "" {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, logsTime)
	defer cancel()
	argv := []string{Docker, "logs", "--since", since.UTC().Format(time.RFC3339Nano), "--tail", fmt.Sprint(lines), id}
	out, err := e.run(ctx, machine.Program{Argv: argv})
	if err != nil || out.Exit != 0 {
		return nil
	}

	text := strings.TrimRight(out.Stdout+out.Stderr, "\n")
	if text == "" {
		return nil
	}

	return strings.Split(text, "\n")
}

// Remove stops and removes containers, with the networks of their project where nothing else uses them.
// Volumes stay, named or not.
func (e Engine) Remove(ctx context.Context, project string, ids []string) error {
	if len(ids) > 0 {
		if _, err := e.call(ctx, append([]string{"stop"}, ids...)...); err != nil {
			return err
		}
		if _, err := e.call(ctx, append([]string{"rm"}, ids...)...); err != nil {
			return err
		}
	}
	if project == "" {
		return nil
	}

	out, err := e.call(ctx, "network", "ls", "-q", "--filter", "label="+labelProject+"="+project)
	if networks := strings.Fields(out); err == nil && len(networks) > 0 {
		_, err = e.call(ctx, append([]string{"network", "rm"}, networks...)...)
	}
	return err
}

// Volumes are the names of a project's volumes.
func (e Engine) Volumes(ctx context.Context, project string) ([]string, error) {
	out, err := e.call(ctx, "volume", "ls", "-q", "--filter", "label="+labelProject+"="+project)
	return strings.Fields(out), err
}

// program is how the engine's program is called.
func (e Engine) program() string { return cmp.Or(e.Name, Docker) }

// call runs one command, which is to succeed.
func (e Engine) call(ctx context.Context, args ...string) (string, error) {
	out, err := e.run(ctx, machine.Program{Argv: append([]string{e.program()}, args...)})
	if err != nil {
		return "", err
	}
	if out.Exit != 0 {
		return "", fmt.Errorf("%s %s: %s", e.program(), args[0], lastLine(out.Stderr))
	}
	return out.Stdout, nil
}

func (e Engine) run(ctx context.Context, p machine.Program) (machine.Output, error) {
	if e.Programs == nil {
		return machine.Output{}, errors.New("this host has no container engine")
	}
	return e.Programs.Run(ctx, p)
}

// A Stack is a compose project of a service.
type Stack struct {
	Service string
	bundle.ComposeProject
}

// program is a call of compose for the stack. It names all that compose would look for by itself.
func (s *Stack) program(args ...string) machine.Program {
	argv := []string{Docker, "compose", "--project-name", s.Project, "--project-directory", s.Dir}
	for _, env := range s.Env {
		argv = append(argv, "--env-file", env)
	}
	if len(s.Env) == 0 {
		argv = append(argv, "--env-file", "/dev/null")
	}
	for _, f := range s.Files {
		argv = append(argv, "-f", f)
	}
	return machine.Program{Argv: append(argv, args...), Dir: s.Dir, Env: []string{"COMPOSE_PROGRESS=plain", "COMPOSE_ANSI=never"}}
}

// compose runs one command of compose, which is to succeed.
func (e Engine) compose(ctx context.Context, s *Stack, args ...string) (string, error) {
	out, err := e.run(ctx, s.program(args...))
	if err != nil {
		return "", err
	}
	if out.Exit != 0 {
		return "", fmt.Errorf("docker compose %s: %s", args[0], composeSaid(out.Stderr))
	}
	return out.Stdout, nil
}

const maxSaid = 1 << 10 // bytes of what compose said that are told

// composeSaid is what compose said of its failure: the lines that are no progress, the last first told.
func composeSaid(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		isProgress := slices.ContainsFunc([]string{"Container ", "Network ", "Volume ", "time="}, func(start string) bool {
			return strings.HasPrefix(line, start)
		})
		if line != "" && !isProgress {
			lines = append(lines, strings.TrimPrefix(line, "Error response from daemon: "))
		}
	}

	if len(lines) == 0 {
		return lastLine(stderr)
	}

	return plain.Text(strings.Join(lines[max(0, len(lines)-5):], "; "), maxSaid)
}
