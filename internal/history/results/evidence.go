package results

import (
	"encoding/json"
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/history/null"
	"bellhop/internal/history/store"
)

// keepEvidence is how many results keep their evidence: each has some kilobytes.
const keepEvidence = 1_000

// An Evidence is what a host saw of one thing that failed: a unit, a probe, or a step of a service. Its
// JSON is a contract: what does not exist is null, and no list is.
type Evidence struct {
	Service *string  `json:"service"`
	Unit    *string  `json:"unit"`   // that failed, or that a step ran in
	Probe   *string  `json:"probe"`  // its kind and what it asked
	Result  *string  `json:"result"` // of the unit as systemd names it, or what was wrong with the answer
	Exit    int      `json:"exit"`   // code or signal of a unit, status of an HTTP answer
	Lines   []string `json:"lines"`  // the last of the unit's journal, or of the answer's body
}

// SaveEvidence writes what a host saw in a run. It is called inside a transaction.
func SaveEvidence(tx *store.Tx, run, host string, all []bundle.Evidence) error {
	if len(all) == 0 {
		return nil
	}
	p, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT OR REPLACE INTO evidence(run, host, evidence) VALUES(?,?,?)`, run, host, string(p)); err != nil {
		return err
	}

	_, err = tx.Exec(`DELETE FROM evidence WHERE seq <= (SELECT max(seq) FROM evidence) - ?`, keepEvidence)
	return err
}

// ReadEvidence reads what hosts saw in a run, by host.
func ReadEvidence(q store.Querier, run string) (map[string][]Evidence, error) {
	rows, err := q.Query(`SELECT host, evidence FROM evidence WHERE run = ?`, run)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	byHost := map[string][]Evidence{}
	for rows.Next() {
		var host, stored string
		if err := rows.Scan(&host, &stored); err != nil {
			return nil, err
		}
		var all []bundle.Evidence
		if err := json.Unmarshal([]byte(stored), &all); err != nil {
			return nil, fmt.Errorf("evidence of %s in run %s: %w", host, run, err)
		}
		byHost[host] = evidenceOf(all)
	}

	return byHost, rows.Err()
}

func evidenceOf(all []bundle.Evidence) []Evidence {
	out := make([]Evidence, 0, len(all))
	for _, e := range all {
		lines := e.Lines
		if lines == nil {
			lines = []string{}
		}
		out = append(out, Evidence{Service: null.Text(e.Service), Unit: null.Text(e.Unit), Probe: null.Text(e.Probe), Result: null.Text(e.Result), Exit: e.Exit, Lines: lines})
	}

	return out
}
