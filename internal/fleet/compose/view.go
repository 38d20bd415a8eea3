package compose

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"bellhop/internal/fleet/problem"
)

// Merges, anchors, tags and keys in another notation make a file mean more than its nodes show. So what could
// have compose-go open a file is looked for in the model that compose-go itself makes of the text, with
// everything off that reads.

// asWritten turns off what takes from other files, and what judges a file that may be half of a project.
func asWritten(o *loader.Options) {
	o.SkipExtends, o.SkipValidation, o.SkipDefaultValues = true, true, true
	o.SkipNormalization, o.SkipConsistencyCheck = true, true
	o.ResolvePaths = false // it would put the home of this process in for ~
}

// model is what compose-go makes of one file; nil when that was reported.
func (r *reading) model(d *doc, options ...func(*loader.Options)) map[string]any {
	filled := r.values.filled
	defer func() {
		if r.values.filled <= maxFilled {
			r.values.filled = filled // the file is read again, and counted then
		}
	}()

	details := types.ConfigDetails{WorkingDir: r.dir(base(d.name)), Environment: r.values.known(), ConfigFiles: []types.ConfigFile{d.config()}}
	model, err := loader.LoadModelWithContext(context.Background(), details, append([]func(*loader.Options){r.options}, options...)...)
	if err != nil {
		r.fail([]string{d.name}, err)
		return nil
	}

	return model
}

// opensNothing says whether compose-go can have the file without opening another, or looking for a home.
func (r *reading) opensNothing(d *doc) bool {
	model := r.model(d, asWritten)
	if model == nil || r.homes(d, model) {
		return false
	}

	if _, left := model["include"]; left {
		r.report(d, problem.Pos{Line: 1, Column: 1}, "include: comes by a merge or a tag: write it at the top of the file, as plain text")
		return false
	}

	for _, kind := range []string{"services", "jobs"} {
		entries, _ := model[kind].(map[string]any)
		for _, name := range sortedKeys(entries) {
			entry, _ := entries[name].(map[string]any)
			extends, _ := entry["extends"].(map[string]any)
			if _, left := extends["file"]; left {
				at, _ := d.find([]string{kind, name, "extends"})
				r.report(d, at, "%s.%s.extends: file: comes by a merge or a tag: write it there, as plain text", kind, name)
				return false
			}
		}
	}

	return true
}

// homePaths are where compose-go fills in a home for ~, in the notations that a file may use.
var homePaths = []string{
	"services.*.volumes.*", "services.*.volumes.*.source",
	"services.*.env_file", "services.*.env_file.*", "services.*.env_file.*.path",
	"services.*.label_file", "services.*.label_file.*",
	"services.*.build", "services.*.build.context", "services.*.build.additional_contexts.*", "services.*.build.ssh.*",
	"secrets.*.file", "configs.*.file", "volumes.*.driver_opts.device",
}

// homes reports paths that begin with ~, which mean a home of whoever runs compose.
func (r *reading) homes(d *doc, model map[string]any) (found bool) {
	for _, pattern := range homePaths {
		eachText(model, strings.Split(pattern, "."), nil, func(keys []string, text string) {
			if strings.HasPrefix(text, "~") {
				at, _ := d.find(keys)
				r.report(d, at, "%s begins with ~: write the absolute path", text)
				found = true
			}
		})
	}
	return found
}

// eachText calls f with the texts of a model that stand where pattern says, and with the keys that lead there.
func eachText(v any, pattern, keys []string, f func(keys []string, text string)) {
	if text, is := v.(string); is && len(pattern) == 0 {
		f(keys, text)
	}
	if len(pattern) == 0 {
		return
	}

	next := func(key string, v any) { eachText(v, pattern[1:], append(slices.Clone(keys), key), f) }
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if pattern[0] == "*" || pattern[0] == key {
				next(key, v[key])
			}
		}
	case []any:
		for i, e := range v {
			if pattern[0] == "*" {
				next(strconv.Itoa(i), e)
			}
		}
	}
}
