package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// unitFormat has podman ps tell one line of JSON for each container.
const unitFormat = `{"ID":{{json .ID}},"Image":{{json .ImageID}},"Ref":{{json .Image}},"Status":{{json .State}},` +
	`"Unit":{{json (index .Labels "` + labelUnit + `")}},"Name":{{json .Names}}}`

const (
	labelUnit  = "PODMAN_SYSTEMD_UNIT" // podman gives it to what a unit started
	pauseImage = "localhost/podman-pause:"
)

// OfUnits are the containers of systemd units by podman, among those of units. Their Service is the unit, with the name of the container behind a colon
// where the unit is of a .kube file, which may have several. What podman itself makes for a pod is left out.
func (e Engine) OfUnits(ctx context.Context, units []string) (all []State, err error) {
	text, err := e.call(ctx, "ps", "-a", "--no-trunc", "--filter", "label="+labelUnit, "--format", unitFormat)
	if err != nil {
		return nil, err
	}

	names := map[string][]string{} // of the containers, by unit
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}

		var s struct {
			State
			Unit, Name string
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, fmt.Errorf("podman ps says what can't be read: %w", err)
		}
		isPodmans := s.Image == "" || strings.HasPrefix(s.Ref, pauseImage) // a newer podman runs its own from a folder
		if !slices.Contains(units, s.Unit) || isPodmans {
			continue
		}

		s.State.Service = s.Unit
		names[s.Unit] = append(names[s.Unit], s.Name)
		all = append(all, s.State)
	}

	seen := map[string]int{}
	for i := range all {
		unit := all[i].Service
		if of := names[unit]; len(of) > 1 {
			all[i].Service = unit + ":" + of[seen[unit]]
		}

		seen[unit]++
	}

	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.Service+"\x00"+a.ID, b.Service+"\x00"+b.ID) })
	return all, nil
}

// UnitName is the unit that a container of OfUnits is of.
func (s *State) UnitName() string {
	unit, _, _ := strings.Cut(s.Service, ":")
	return unit
}
