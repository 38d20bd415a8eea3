package compose

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"bellhop/internal/bundle"
)

// override is a compose file that is the same but for mounts of keys: where Docker would make a folder
// in place of a key that is not there yet, as at boot, it is told not to. Docker's own start then fails without
// harm, and the unit starts the container when its keys have come. It is nil when no mount needs it.
func (r *reading) override() []byte {
	var b bytes.Buffer
	for _, name := range r.project.ServiceNames() {
		s := r.project.Services[name]
		var mounts []types.ServiceVolumeConfig
		for _, v := range s.Volumes {
			source := path.Clean(v.Source)
			atKeys := source == bundle.KeyDir || strings.HasPrefix(source, bundle.KeyDir+"/")
			isMade := v.Bind == nil || bool(v.Bind.CreateHostPath)
			if v.Type == types.VolumeTypeBind && (atKeys || r.isKeyLink(source)) && isMade {
				mounts = append(mounts, v)
			}
		}
		if len(mounts) == 0 {
			continue
		}

		if b.Len() == 0 {
			b.WriteString("# Written by bellhop: mounts of keys, which Docker must not make folders for.\nservices:\n")
		}
		fmt.Fprintf(&b, "  %q:\n    volumes:\n", name)
		for _, v := range mounts {
			overrideMount(&b, v)
		}
	}
	return b.Bytes()
}

func overrideMount(b *bytes.Buffer, v types.ServiceVolumeConfig) {
	fmt.Fprintf(b, "      - type: bind\n        source: %q\n        target: %q\n", plainText(v.Source), plainText(v.Target))
	if v.ReadOnly {
		b.WriteString("        read_only: true\n")
	}
	b.WriteString("        bind:\n          create_host_path: false\n")
	if v.Bind != nil && v.Bind.Propagation != "" {
		fmt.Fprintf(b, "          propagation: %q\n", v.Bind.Propagation)
	}
	if v.Bind != nil && v.Bind.SELinux != "" {
		fmt.Fprintf(b, "          selinux: %q\n", v.Bind.SELinux)
	}
}

// plainText is text in which no variable is filled in again.
func plainText(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// isKeyLink says whether a path is the link to a template that names keys.
func (r *reading) isKeyLink(source string) bool {
	name, ok := r.inProject(source)
	return ok && r.keyOf(name) != ""
}
