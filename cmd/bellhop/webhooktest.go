package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/secrets/privatefile"
	"bellhop/server"
)

type webhookTest struct {
	stateDir, secretFile string
	url, branch, repo    string
	forge                string // as whose the server reads deliveries
}

func webhookTestCmd(e *Env) *cobra.Command {
	var o webhookTest
	c := &cobra.Command{
		Use: "test", Short: "Send a signed test delivery to the webhook", Args: cobra.NoArgs,
		Long: `Send a signed push event to the webhook and print the answer. Address, branch, repo and secret are
those of the running server. To test the address that the git host uses, give it with --url.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.ask(c.Context()); err != nil {
				return err
			}
			return runWebhookTest(e, c.Context(), &o)
		},
	}
	stateDirFlag(c, &o.stateDir)
	serverFlag(c)
	secretFileFlag(c, &o.secretFile, "webhook-secret", "", "file with the webhook's secret (default: the server's own)")
	c.Flags().StringVar(&o.url, "url", "", "address of the webhook as the git host uses it (default: where the server here listens)")
	c.Flags().StringVar(&o.branch, "branch", "", "branch of the push event (default: the server's)")
	return c
}

// A webhookAnswer is what a server says of its webhook to who may ask it anything. The secret
// itself stays in its file.
type webhookAnswer struct {
	Address    string `json:"address"` // "": it listens nowhere
	Branch     string `json:"branch"`
	Repo       string `json:"repo"` // that a delivery must name; "" is any
	SecretFile string `json:"secret_file"`
	Forge      string `json:"forge"` // as whose the server reads deliveries; "" is github

	// OtherRepo tells of deliveries that were ignored for the repo that they name.
	OtherRepo *server.OtherRepo `json:"other_repo"`
}

// askWebhook asks the running server; without one the answer is what a server without flags would say.
func askWebhook(ctx context.Context, stateDir string) (a webhookAnswer, err error) {
	client, err := dial(stateDir)
	if err != nil || client == nil {
		return webhookAnswer{Address: ":8080", Branch: "main", SecretFile: newState(stateDir).webhookSecret}, err
	}
	defer client.Close()
	a, err = server.Call[webhookAnswer](ctx, client, "webhook", nil, nil)
	return a, fromSocket(err)
}

// ask fills in what was not typed, from the running server if there is one. Who typed all of it
// needs no right to ask.
func (o *webhookTest) ask(ctx context.Context) error {
	a, err := askWebhook(ctx, o.stateDir)
	allTyped := !slices.Contains([]string{o.url, o.branch, o.secretFile}, "")
	if err != nil && allTyped {
		return nil
	}
	if err != nil {
		return err
	}
	if o.url == "" && a.Address == "" {
		return hint(errors.New("webhook test: the server has no webhook listener"), "start it with --listen ADDRESS:PORT; until then it polls")
	}

	o.repo, o.forge = a.Repo, a.Forge
	for _, v := range []struct {
		v *string
		d string
	}{{&o.url, "http://" + fromHere(a.Address) + "/v1/webhook"}, {&o.branch, a.Branch}, {&o.secretFile, a.SecretFile}} {
		if *v.v == "" {
			*v.v = v.d
		}
	}

	return nil
}

// fromHere is how an address that somebody listens on is reached on the same machine.
func fromHere(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func runWebhookTest(e *Env, ctx context.Context, o *webhookTest) error {
	secret, err := privatefile.Read(o.secretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return hint(fmt.Errorf("read the webhook secret: %w", err), "on the box that serves it is found by itself; elsewhere give --webhook-secret FILE")
	} else if err != nil {
		return fmt.Errorf("read the webhook secret: %w", err)
	}
	defer clear(secret)
	a, err := deliver(ctx, o.url, bytes.TrimSuffix(secret, []byte("\n")), server.Push{Ref: "refs/heads/" + o.branch, Repo: o.repo}, o.forge)
	if err != nil {
		return err
	}

	fmt.Fprintf(e.Stdout, "%s\n", strings.TrimSpace(fmt.Sprintf("%d %s %s", a.status, a.Message, a.Run)))
	if a.status != http.StatusAccepted {
		return hint(fmt.Errorf("webhook test: a push of %s to %s does not ring", o.branch, o.url), "the answer says why; --branch sends another branch")
	}

	return nil
}

// A delivered is what the webhook answered.
type delivered struct {
	status  int
	Run     string `json:"run"`
	Message string `json:"message"`
}

// deliver sends a push delivery, as the forge of that name would.
func deliver(ctx context.Context, url string, secret []byte, push server.Push, forge string) (d delivered, err error) {
	if !strings.Contains(url, "://") {
		url = "http://" + url + "/v1/webhook"
	}

	req, err := server.NewDelivery(ctx, forge, url, secret, push)
	if err != nil {
		return d, err
	}
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
		return d, hint(fmt.Errorf("deliver to %s: there is no webhook at that address", url), urlHint)
	}

	return d, nil
}

const urlHint = "where the server listens is its --listen: give --url http://ADDRESS/v1/webhook"
