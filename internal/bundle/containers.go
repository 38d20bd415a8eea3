package bundle

import "slices"

// Where things of a compose service stand on a host.
const (
	StackDir   = "/opt/stacks"          // default project directories: /opt/stacks/SERVICE
	ComposeDir = "/etc/bellhop/compose" // what bellhop renders for a service: ComposeDir/SERVICE/settings.env, keys.yaml
	DockerUnit = "docker.service"
)

// A ComposeProject is what a service asks of docker compose. All that it names is resolved by the
// deployer; the host renders the same files with its own compose and tells where the two disagree.
type ComposeProject struct {
	Project string   `json:"project"`       // name of the project; the service's name unless adopted under another
	Dir     string   `json:"dir"`           // --project-directory, absolute
	Files   []string `json:"files"`         // -f, in order, absolute; the last may be the override that bellhop renders
	Env     []string `json:"env,omitempty"` // --env-file, in order, absolute, a later one wins; none: an empty one is to be given

	Containers []Container     `json:"containers"`         // by name, sorted
	Volumes    []ComposeVolume `json:"volumes,omitempty"`  // by key, sorted
	Networks   []ComposeVolume `json:"networks,omitempty"` // by key, sorted
}

// A Container is one service of a compose file, as the deployer resolved it.
type Container struct {
	Name       string `json:"name"`                  // of the service in the compose file, not the container's own
	Image      string `json:"image,omitempty"`       // as written; "" for one that is built and has no name
	Pull       string `json:"pull,omitempty"`        // pull_policy: missing, always, never, build; "" is missing
	Build      bool   `json:"build,omitempty"`       // it has build:
	Definition string `json:"definition"`            // digest of the resolved definition: env files and build contexts included, images' bytes and mounted files not
	NetworkOf  string `json:"network_of,omitempty"`  // network_mode: service:X, the same for ipc and pid
	Check      bool   `json:"healthcheck,omitempty"` // the compose file gives it a healthcheck; an image may have one too
	Once       bool   `json:"once,omitempty"`        // an exit with 0 is its good end: no restart, or only on failure
	Scale      int    `json:"scale,omitempty"`       // how many run; 0 is one
	Idle       bool   `json:"idle,omitempty"`        // it has profiles, none of which is on, or scale 0: up does not start it

	Files       []string `json:"files,omitempty"`        // of the bundle, absolute, sorted: those that are mounted, config or secret; a restart shows new ones
	Inputs      []string `json:"inputs,omitempty"`       // of the bundle: env_file, label_file, build contexts; their bytes are in Definition
	Keys        []string `json:"keys,omitempty"`         // names of keys that it mounts, sorted; a restart shows new ones
	EnvKeys     []string `json:"env_keys,omitempty"`     // names of keys whose values are in its environment: a new value recreates it
	Volumes     []string `json:"volumes,omitempty"`      // KEY:TARGET of named volumes, sorted
	RestartWith []string `json:"restart_with,omitempty"` // depends_on with restart: true: restarted when one of these is
}

// A ComposeVolume is one volume or network of a project.
type ComposeVolume struct {
	Key        string `json:"key"`                // in the compose file
	Name       string `json:"name"`               // as the engine has it: PROJECT_KEY, or what name: says
	External   bool   `json:"external,omitempty"` // compose neither makes nor removes it
	Definition string `json:"definition"`         // digest of driver, options and labels
}

// ContainerOf is the container of that compose service; nil when there is none.
func (c *ComposeProject) ContainerOf(name string) *Container {
	i := slices.IndexFunc(c.Containers, func(o Container) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Containers[i]
}

// size is how many values c has, roughly: what a host may say is bounded by it.
func (c *ComposeProject) size() int {
	n := 1 + len(c.Files) + len(c.Env) + len(c.Volumes) + len(c.Networks)
	for _, o := range c.Containers {
		n += 2 + len(o.Files) + len(o.Inputs) + len(o.Keys) + len(o.EnvKeys) + len(o.Volumes) + len(o.RestartWith)
	}
	return n
}

// Args are the arguments of `docker` that name the project, up to the verb: every call has all of them, so
// that nothing of the place where it is called has a say.
func (c *ComposeProject) Args() []string {
	args := []string{"compose", "--progress", "plain", "--ansi", "never", "--project-name", c.Project, "--project-directory", c.Dir}
	for _, f := range c.Files {
		args = append(args, "-f", f)
	}
	for _, e := range c.Env {
		args = append(args, "--env-file", e)
	}
	if len(c.Env) == 0 {
		args = append(args, "--env-file", "/dev/null")
	}

	return args
}
