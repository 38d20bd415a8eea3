package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/history"
	"bellhop/server"
)

func (e *Env) ringCmd() *cobra.Command {
	var stateDir string
	var follow, asJSON bool
	c := &cobra.Command{
		Use: "ring", Short: "Ring the running server: look at the repo now", GroupID: groupServer, Args: cobra.NoArgs,
		Long: `Ring the running server, as a webhook does. With --follow the run is shown until it ends; in a
repo's hooks/post-receive that shows it to the one who pushes.`,
		RunE: func(c *cobra.Command, _ []string) error { return e.ring(c.Context(), stateDir, follow, asJSON) },
	}
	stateDirFlag(c, &stateDir)
	serverFlag(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "show the run until it ends")
	jsonFlag(c, &asJSON)
	return c
}

func (e *Env) ring(ctx context.Context, stateDir string, follow, asJSON bool) error {
	client, err := dialRing(stateDir)
	if err != nil {
		return err
	}
	defer client.Close()
	if !follow {
		a, err := client.Ring(ctx, nil)
		if err != nil {
			return fromSocket(err)
		}
		if asJSON {
			return e.writeJSON(map[string]any{"v": 1, "run": a.Run})
		}
		fmt.Fprintln(e.Stdout, "rang: run", a.Run)
		return nil
	}
	g := e.progressOn(e.Stderr)
	a, err := client.Ring(ctx, g.raw)
	if err != nil {
		return fromSocket(err)
	}
	var run history.Run
	if err := json.Unmarshal(a.Result, &run); err != nil {
		return fmt.Errorf("ring: read what came of run %s: %w", a.Run, err)
	}
	return e.ended(&run, nil, "", asJSON)
}

// dialRing takes the socket that may do everything, or the one for those who may only ring.
func dialRing(stateDir string) (*server.Client, error) {
	client, err := server.Dial(stateDir)
	if err == nil {
		return client, nil
	}
	if c, rerr := server.DialSocket(filepath.Join(stateDir, server.RingSocketName)); rerr == nil {
		return c, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, hint(fmt.Errorf("ring: %w", err), "bellhop serve --ring-group GROUP lets a group ring; or sudo")
	}
	return nil, hint(fmt.Errorf("ring: %w", err), "bellhop serve must run; --state-dir says where")
}

func (e *Env) webhookCmd() *cobra.Command {
	return group(groupServer, "webhook", "Deliveries of the git host", e.webhookListCmd(), e.webhookTestCmd())
}

func (e *Env) webhookListCmd() *cobra.Command {
	var f lookFlags
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "What came, what it was answered, and why", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ds, err := e.deliveries(c.Context(), &f, limit)
			if err != nil {
				return err
			}
			if f.json {
				return e.writeJSON(map[string]any{"v": 1, "deliveries": orEmpty(ds)})
			}
			e.printDeliveries(ds)
			return nil
		},
	}
	stateDirFlag(c, &f.stateDir)
	serverFlag(c)
	jsonFlag(c, &f.json)
	c.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return c
}

func (e *Env) deliveries(ctx context.Context, f *lookFlags, limit int) (ds []history.Delivery, err error) {
	client, err := dial(f.stateDir)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
		ds, err = server.Call[[]history.Delivery](ctx, client, "deliveries", historyRequest{Limit: limit}, nil)
		return ds, fromSocket(err)
	}
	err = f.read(func(db *history.DB) error {
		ds, err = db.Deliveries(ctx, limit)
		return err
	})
	return ds, err
}

func (e *Env) printDeliveries(ds []history.Delivery) {
	p, now := e.outPaint(), time.Now()
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "WHEN", "EVENT", "BRANCH", "COMMIT", "RUN", "ANSWER")
	for _, d := range ds {
		t.row(ago(now, d.At), d.Event, dash(d.Branch), dash(short(d.Commit)), dash(d.Run), d.Answer)
	}
	if len(ds) == 0 {
		fmt.Fprintln(e.Stdout, "no delivery yet")
		return
	}
	t.write(e.Stdout)
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func (e *Env) webhookTestCmd() *cobra.Command {
	var stateDir, secretFile, url, branch string
	c := &cobra.Command{
		Use: "test", Short: "Ring by a signed delivery of our own, the way the git host does", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st := newState(stateDir)
			if secretFile != "" {
				st.webhookSecret = secretFile
			}
			secret, err := readPrivate(st.webhookSecret)
			if errors.Is(err, fs.ErrNotExist) {
				return hint(fmt.Errorf("read the webhook secret: %w", err), "on the box that serves it is found by itself; elsewhere give --webhook-secret FILE")
			} else if err != nil {
				return fmt.Errorf("read the webhook secret: %w", err)
			}
			defer clear(secret)
			a, err := deliver(c.Context(), url, bytes.TrimSuffix(secret, []byte("\n")), "refs/heads/"+branch, "")
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "%d %s %s\n", a.status, a.Message, a.Run)
			if a.status >= 300 {
				return exit(exitError)
			}
			return nil
		},
	}
	stateDirFlag(c, &stateDir)
	secretFileFlag(c, &secretFile, "webhook-secret", "", "file with the webhook's secret (default: webhook-secret in the state directory)")
	c.Flags().StringVar(&url, "url", "http://127.0.0.1:8080/v1/webhook", "where the webhook is heard, as the world sees it")
	c.Flags().StringVar(&branch, "branch", "main", "the branch that is said to have been pushed")
	return c
}

// A delivered is what the webhook answered.
type delivered struct {
	status  int
	Run     string `json:"run"`
	Message string `json:"message"`
}

// deliver sends a push delivery, signed as GitHub signs them.
func deliver(ctx context.Context, url string, secret []byte, ref, commit string) (d delivered, err error) {
	if !strings.Contains(url, "://") {
		url = "http://" + url + "/v1/webhook"
	}
	body, err := json.Marshal(map[string]any{"ref": ref, "after": commit})
	if err != nil {
		return d, err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return d, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bellhop")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", strings.ToLower(rand.Text()))
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return d, hint(fmt.Errorf("deliver to %s: %w", url, err), urlHint)
	}
	defer res.Body.Close()
	d.status = res.StatusCode
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return d, fmt.Errorf("deliver to %s: %w", url, err)
	}
	if json.Unmarshal(answer, &d) != nil {
		d.Message = strings.TrimSpace(string(answer))
	}
	switch d.status {
	case http.StatusUnauthorized:
		return d, hint(errors.New("the server says that the signature is wrong"), "is this the secret that the server uses?")
	case http.StatusNotFound:
		return d, hint(fmt.Errorf("deliver to %s: no webhook is heard there", url), urlHint)
	}
	return d, nil
}

const urlHint = "where the server listens is its --listen: give --url http://ADDRESS/v1/webhook"
