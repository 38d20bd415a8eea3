package server

import (
	"net/url"
	"strings"
)

// RepoName is the OWNER/NAME by which webhooks call the repo at an address, "" for a path on this
// machine: the last two segments, since a forge may be below a path of its host. An address of
// one segment alone is that.
func RepoName(address string) string {
	return lastSegments(addressPath(address), 2)
}

// RepoPath is RepoName with all segments before the last two, as the groups of GitLab: group/sub/NAME.
func RepoPath(address string) string {
	path := addressPath(address)
	return lastSegments(path, strings.Count(path, "/")+1)
}

// addressPath is the path of a git address: of a URL, or of host:path as ssh has it.
func addressPath(address string) string {
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		if strings.EqualFold(scheme, "file") {
			return ""
		}

		_, path, _ := strings.Cut(rest, "/")
		path, _, _ = strings.Cut(path, "?")
		path, _, _ = strings.Cut(path, "#")
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}

		return path
	}

	onThisMachine := strings.HasPrefix(address, "/") || strings.HasPrefix(address, ".") || strings.HasPrefix(address, "file:")
	if onThisMachine {
		return ""
	}

	sep := ":"
	if strings.HasPrefix(address, "[") { // [host:port]:path, [v6]:path
		sep = "]:"
	}

	host, path, ok := strings.Cut(address, sep)
	if !ok || strings.Contains(host, "/") {
		return ""
	}

	return path
}

// lastSegments are the last n segments of a repo's path or name, less a home at its start, ".git"
// and empty ones.
func lastSegments(path string, n int) string {
	var segments []string
	for s := range strings.SplitSeq(path, "/") {
		if s != "" && s != "." && !strings.HasPrefix(s, "~") {
			segments = append(segments, s)
		}
	}
	if len(segments) == 0 {
		return ""
	}

	last := &segments[len(segments)-1]
	if len(*last) > len(".git") && strings.EqualFold((*last)[len(*last)-len(".git"):], ".git") {
		*last = (*last)[:len(*last)-len(".git")]
	}
	return strings.Join(segments[max(0, len(segments)-n):], "/")
}

// sameRepo says whether a payload's repo is the one that is deployed. Forges tell names apart
// without regard to case. As many segments count as ours has, two at most.
func sameRepo(ours, theirs string) bool {
	if ours == "" {
		return true
	}
	ours = lastSegments(ours, 2)
	n := strings.Count(ours, "/") + 1
	return strings.EqualFold(ours, lastSegments(theirs, n))
}
