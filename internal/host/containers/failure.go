package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bellhop/internal/plain"
)

// A Cause is why an image could not be had.
type Cause string

// The causes.
const (
	NotFound    Cause = "not found"
	NoRight     Cause = "no right"
	Quota       Cause = "quota"
	Unreachable Cause = "network"
	TooSlow     Cause = "too slow"
	ServerError Cause = "registry"
	DiskFull    Cause = "disk full"
	NoEngine    Cause = "engine"
	Other       Cause = "other"
)

// An ImageError is that an image could not be pulled.
type ImageError struct {
	Image string
	Cause Cause
	Text  string // of the engine: its last line
}

// means says what each cause is, for people.
var means = map[Cause]string{
	NotFound:    "its registry has no such image, or shows it to nobody who is not logged in",
	NoRight:     "its registry refuses: the image needs a login, or the login has no right to it",
	Quota:       "its registry lets this address pull no more for now",
	Unreachable: "its registry can't be reached",
	TooSlow:     "its registry did not deliver in time",
	ServerError: "its registry failed",
	DiskFull:    "the host has no room for it",
	NoEngine:    "the engine does not answer",
	Other:       "the engine says",
}

func (e *ImageError) Error() string {
	text := fmt.Sprintf("image %s: %s", e.Image, means[e.Cause])
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Passes says that the same pull may succeed later, with nothing changed in the repo.
func (e *ImageError) Passes() bool {
	switch e.Cause {
	case Quota, Unreachable, TooSlow, ServerError, NoEngine:
		return true
	}
	return false
}

// Passes says that all that err joins may pass by itself.
func Passes(err error) bool {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			if !Passes(one) {
				return false
			}
		}
		return true
	}
	var image *ImageError
	return errors.As(err, &image) && image.Passes()
}

// signs are what engines write, in the order in which they are looked for. Docker gives the status of
// a registry as text alone, and podman wraps the same words.
var signs = []struct {
	text  string
	cause Cause
}{
	{"toomanyrequests", Quota},
	{"too many requests", Quota},
	{"no space left on device", DiskFull},
	{"manifest unknown", NotFound},
	{"manifest_unknown", NotFound}, // the code of an answer that docker does not take for one of a registry
	{"name_unknown", NotFound},
	{"name unknown", NotFound},
	{"repository does not exist", NotFound}, // Docker Hub says this of private ones too
	{"not found: manifest", NotFound},
	{"unauthorized", NoRight},
	{"authentication required", NoRight},
	{"no basic auth credentials", NoRight}, // of a registry that knows no tokens, and a host without a login
	{"invalid username/password", NoRight},
	{"denied", NoRight},
	{"forbidden", NoRight},
	{"cannot connect to the docker daemon", NoEngine},
	{"connection refused", Unreachable},
	{"no route to host", Unreachable},
	{"network is unreachable", Unreachable},
	{"no such host", Unreachable},
	{"server misbehaving", Unreachable},
	{"i/o timeout", Unreachable},
	{"connection reset", Unreachable},
	{"unexpected eof", Unreachable},
	{"tls handshake timeout", Unreachable},
	{"client.timeout exceeded", Unreachable},
	{"context deadline exceeded", Unreachable},
	{"dial tcp", Unreachable},
	{"unexpected http status: 5", ServerError},
	{"internal server error", ServerError},
	{"bad gateway", ServerError},
	{"service unavailable", ServerError},
	{" not found", NotFound},
}

// failure is what the engine's words mean. err is why it could not be asked to the end; nil where it
// ended by itself.
func failure(image, stderr string, err error) *ImageError {
	e := &ImageError{Image: image, Cause: Other, Text: lastLine(stderr)}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return &ImageError{Image: image, Cause: TooSlow}
		}
		e.Text = err.Error()
		return e
	}

	lower := strings.ToLower(e.Text)
	for _, s := range signs {
		if strings.Contains(lower, s.text) {
			e.Cause = s.cause
			break
		}
	}
	return e
}

const maxLine = 400 // bytes of an engine's line that are told

// lastLine is the last line of what an engine wrote, without what all of them begin with.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	for _, prefix := range []string{"Error: ", "Error response from daemon: "} {
		line = strings.TrimPrefix(line, prefix)
	}
	return plain.Text(line, maxLine)
}
