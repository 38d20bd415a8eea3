package adopt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// compareLine has the host's own compose read the files of a project as they are, and prints the hash of each definition,
// a line of "--", and the hash by which each container was started. Values stay on the host, in a pipe.
const compareLine = `compose() { env -i PATH="$PATH" HOME=/root docker compose -p %[1]s --project-directory %[2]s "$@" 2>/dev/null; }
compose %[3]s config | compose --env-file /dev/null -f - config --hash '*'
echo --
docker ps -a --filter label=com.docker.compose.project=%[1]s --filter label=com.docker.compose.oneoff=False --format '{{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.config-hash"}}'`

// compare notes which containers were started by another definition than the files have now.
func (r *reading) compare(project *bundle.ComposeProject) error {
	names, isKnown, err := r.host.differ(r.ctx, &r.run, r.Dir, r.From, project)
	r.out.Compared, r.out.Differ = isKnown, names
	return err
}

// differ are the containers of a project whose definition is another one by now, or in no file any more. isKnown is false
// where the host's compose does not tell, as with files that only a container of Portainer sees.
func (h *Host) differ(ctx context.Context, run *running, dir, from string, project *bundle.ComposeProject) (names []string, isKnown bool, err error) {
	var files []string
	for _, list := range []struct {
		flag  string
		files []string
	}{{"-f", run.files}, {"--env-file", run.env}} {
		for _, f := range list.files {
			if name, ok := within(f, dir); ok {
				f = from + "/" + name
			}
			files = append(files, list.flag, quote(f))
		}
	}

	text, err := h.ask(ctx, fmt.Sprintf(compareLine, quote(run.project), quote(dir), strings.Join(files, " ")))
	if err != nil {
		return nil, false, err
	}

	said, ran, _ := strings.Cut("\n"+text, "\n--\n")
	hashes := pairs(said)
	if len(hashes) == 0 {
		return nil, false, nil
	}

	for service, hash := range pairs(ran) {
		c := project.ContainerOf(service)
		hasNoHash := c != nil && c.NetworkOf != "" // it holds the id of another container
		if !hasNoHash && hashes[service] != hash {
			names = append(names, plain.Line(service, plain.MaxLine))
		}
	}

	slices.Sort(names)
	return names, true, nil
}

// pairs are the lines of two words.
func pairs(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 {
			all[f[0]] = f[1]
		}
	}

	return all
}
