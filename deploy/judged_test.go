package deploy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// A change of health, settle or before alone is brought to the host as a generation, and touches no
// unit there. The plan shows it.
func TestHowAServiceIsJudged(t *testing.T) {
	w := newWorld(t, "a")
	w.files["services/web/service.yaml"] = "settle: 0s\n"
	w.push("first", history.OutcomeDone)

	for _, c := range []struct{ service, plan string }{
		{"settings: { port: 80 }\nsettle: 10s\nhealth: ['http://{host}:{port}/', { command: \"a\\nb\", user: web, timeout: 1s }]\nbefore: { command: 'exit {{ .Settings.port }}', first: true }\n",
			"  ~ how web is started and judged\n" +
				"    -settle 0s\n" +
				"    +settle 10s\n" +
				"    +health http http://a:80/ (interval 1s, timeout 5s, grace 30s)\n" +
				"    +health command a ⏎ b (user web, interval 1s, timeout 1s, grace 30s)\n" +
				"    +before command exit 80 (timeout 10m0s, at the first install too)\n"},
		{"settle: 1s\n", "    +settle 1s\n"},
		{"", "  - how web is started and judged\n    -settle 1s\n    +settle 5s\n"},
	} {
		before := w.state("a").Generation
		w.machines["a"].ClearLog()
		w.files["services/web/service.yaml"] = c.service
		w.commit("judged")

		p, err := w.d.Plan(t.Context(), plan.Request{})
		w.must(err)
		var b strings.Builder
		w.must(w.d.WritePlan(t.Context(), &b, p))
		if !strings.Contains(b.String(), c.plan) || !strings.Contains(b.String(), "\n1 of 1 host changes\n") {
			t.Errorf("plan of %q:\n%s\nwant\n%s", c.service, b.String(), c.plan)
		}
		j, err := json.Marshal(p.JSON().Hosts[0].Changes)
		w.must(err)
		if !strings.Contains(string(j), `"kind":"service","name":"web"}]`) {
			t.Errorf("plan as JSON: %s", j)
		}

		r := w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
		if got := r.Hosts[0].Changed; !slices.Equal(got, []string{"web"}) {
			t.Errorf("%q changed %q, want web alone", c.service, got)
		}
		if now := w.state("a").Generation; *now != *before+1 {
			t.Errorf("generation %d after %d", *now, *before)
		}
		if jobs, log := w.machines["a"].Jobs(), w.machines["a"].Log(); len(jobs)+len(log) > 0 || w.machines["a"].Reloads() > 0 {
			t.Errorf("%q: the host was asked for %v, and did %v with %d reloads", c.service, jobs, log, w.machines["a"].Reloads())
		}
	}
}

// A plan's digest tells one probe from another.
func TestPlanDigestOfHealth(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	seen := map[string]string{}
	for _, service := range []string{"settle: 1s\n", "settle: 2s\n", "health: http://a/\n", "before: { command: x }\n"} {
		w.files["services/web/service.yaml"] = service
		w.commit(service)
		p, err := w.d.Plan(t.Context(), plan.Request{})
		w.must(err)
		if other := seen[p.Digest()]; other != "" {
			t.Errorf("%q and %q have one digest", service, other)
		}
		seen[p.Digest()] = service
	}
}
