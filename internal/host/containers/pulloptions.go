package containers

import (
	"slices"
	"strings"

	"bellhop/internal/unitfile"
)

// pullKeys are the keys of an .image that podman's pull has an option for.
var pullKeys = [][2]string{{"AuthFile", "--authfile"}, {"TLSVerify", "--tls-verify"}, {"CertDir", "--cert-dir"}, {"Arch", "--arch"}, {"OS", "--os"}, {"Variant", "--variant"}}

// pullFlags are the options of podman run, podman kube play and podman image pull that say how an image is pulled.
var pullFlags = []string{"--authfile", "--tls-verify", "--cert-dir", "--arch", "--os", "--variant", "--platform"}

// pullOptions are what a quadlet says of its pull, for podman: by keys of an .image, by PodmanArgs=, or by the variable
// in which podman looks for logins. What systemd is still to fill in, such as %d or ${HOME}, is nothing that podman could
// use before the unit starts: the image is asked for without it.
func pullOptions(u *unitfile.Unit, section string) (options []string) {
	if section == "Image" {
		for _, o := range pullKeys {
			if v := u.Value(section, o[0]); v != "" {
				options = append(options, o[1]+"="+v)
			}
		}
	}
	options = append(options, pullArgs(u.Words(section, "PodmanArgs"))...)

	saysWhere := slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--authfile=") })
	for _, v := range u.Words("Service", "Environment") {
		if file, is := strings.CutPrefix(v, "REGISTRY_AUTH_FILE="); is && !saysWhere {
			options = append(options, "--authfile="+file)
		}
	}

	return slices.DeleteFunc(options, func(o string) bool { return strings.ContainsAny(o, "%$") })
}

// pullArgs are those of words that say how an image is pulled, each with its value behind "=".
func pullArgs(words []string) (options []string) {
	for i, w := range words {
		flag, _, hasValue := strings.Cut(w, "=")
		switch {
		case !slices.Contains(pullFlags, flag):
		case hasValue:
			options = append(options, w)
		case flag == "--tls-verify": // a switch takes no word
			options = append(options, w+"=true")
		case i+1 < len(words):
			options = append(options, w+"="+words[i+1])
		}
	}
	return options
}

// AuthNow replaces files of logins by where they are while a run has not put them in place: now gives that, or the same path.
func AuthNow(images []Image, now func(path string) string) {
	for _, i := range images {
		for n, o := range i.Options {
			if file, is := strings.CutPrefix(o, "--authfile="); is {
				i.Options[n] = "--authfile=" + now(file)
			}
		}
	}
}
