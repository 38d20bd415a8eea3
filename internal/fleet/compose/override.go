package compose

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"bellhop/internal/bundle"
)

// override is a compose file that is the same but for mounts of keys and for inline configs and secrets.
//
// Where Docker would make a folder in place of a key that is not there yet, as at boot, it is told not to.
// Docker's own start then fails without harm, and the unit starts the container when its keys have come.
//
// What an inline config holds is in no hash of compose: another text alone would leave the container as it
// is. A label with the digest of the text makes it count. The override is nil when nothing needs it.
func (r *reading) override() []byte {
	var b bytes.Buffer
	for _, name := range r.project.ServiceNames() {
		s := r.project.Services[name]
		mounts, inline := madeMounts(r, &s), r.values.inline(r.project, &s)
		if len(mounts) == 0 && inline == "" {
			continue
		}

		if b.Len() == 0 {
			b.WriteString("# Written by bellhop: mounts of keys, which Docker must not make folders for.\nservices:\n")
		}
		fmt.Fprintf(&b, "  %q:\n", name)
		if inline != "" {
			fmt.Fprintf(&b, "    labels:\n      %s: %q # what its inline configs and secrets hold\n", inlineLabel, inline)
		}
		if len(mounts) == 0 {
			continue
		}
		b.WriteString("    volumes:\n")
		for _, v := range mounts {
			overrideMount(&b, v)
		}
	}

	return b.Bytes()
}

// madeMounts are the mounts of keys that Docker would make folders for.
func madeMounts(r *reading, s *types.ServiceConfig) (mounts []types.ServiceVolumeConfig) {
	for _, v := range s.Volumes {
		source := path.Clean(v.Source)
		atKeys := source == bundle.KeyDir || strings.HasPrefix(source, bundle.KeyDir+"/")
		isMade := v.Bind == nil || bool(v.Bind.CreateHostPath)
		isOfKeys := v.Type == types.VolumeTypeBind && (atKeys || r.isKeyLink(source))
		if isOfKeys && isMade {
			mounts = append(mounts, v)
		}
	}
	return mounts
}

// inlineLabel is the label of a container that has inline configs or secrets: the digest of what they hold.
const inlineLabel = "bellhop.inline"

// inline is the digest of the inline configs and secrets that a service uses; "" when it uses none.
func (v *values) inline(p *types.Project, s *types.ServiceConfig) string {
	var parts []string
	add := func(kind, key string, o types.FileObjectConfig) {
		if text, ok := v.inlineText(o); ok {
			parts = append(parts, kind, key, text)
		}
	}

	for _, use := range s.Configs {
		add("config", use.Source, types.FileObjectConfig(p.Configs[use.Source]))
	}
	for _, use := range s.Secrets {
		add("secret", use.Source, types.FileObjectConfig(p.Secrets[use.Source]))
	}

	if len(parts) == 0 {
		return ""
	}

	return digestOf(parts)
}

// inlineText is what a config or secret holds that names no file; false for one that does.
func (v *values) inlineText(o types.FileObjectConfig) (text string, ok bool) {
	if o.Environment != "" {
		text, _ = v.value(o.Environment)
		return text, true
	}
	return o.Content, o.Content != ""
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
