package machine

import "context"

// A Program is one of the host's own, such as docker, that is run to its end. Its environment is
// PATH, HOME and Env: nothing of this process reaches it.
type Program struct {
	Argv []string
	Env  []string // NAME=value
	Dir  string   // "": /
	In   string   // what it reads
}

// An Output is what a program said, and how it ended.
type Output struct {
	Stdout string
	Stderr string
	Exit   int // -1: a signal ended it
}

// Programs runs programs of the host.
type Programs interface {
	// Run returns when the program has ended. When ctx ends, the program is asked to end, and killed
	// where it does not. An error is that it could not be started, or that ctx ended.
	Run(ctx context.Context, p Program) (Output, error)
}

// DockerSocket is what Programs may have besides, where programs run on the host itself.
type DockerSocket interface {
	// DockerSocket is the path of the socket at which the docker program finds its engine; "" where it asks
	// elsewhere, or that is not known.
	DockerSocket() string
}
