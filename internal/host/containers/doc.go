// Package containers is what a run does with the container engines of a host: Docker with compose, and
// Podman.
//
// The words: a stack is a compose service of the bundle, with the containers that run for it. A quadlet
// is a file that podman's generator makes a unit of. An image is wanted when something that changes
// runs it.
//
// An engine is asked through its own command line, since only that version of it knows what it does.
// Each call has a cleaned environment, and names the project, its directory, each file and each file
// of variables: a stray .env or COMPOSE_FILE of the host changes nothing.
//
// The promises: images are there before anything is stopped, so a failed pull touches nothing. Only
// containers that differ are touched, and all others keep their ids. A container is found by its
// labels, never by its name. A volume is never removed.
package containers
