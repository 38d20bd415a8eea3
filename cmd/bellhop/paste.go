package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"bellhop/secrets/agefile"
	"bellhop/server"
)

// The lines that connect a deployer with its repo, its git host and a browser.

// A pasting is what has to be pasted elsewhere. What is not known is "".
type pasting struct {
	Reader     string `json:"reader"`         // the identity's public half
	Deployer   string `json:"deployer"`       // the SSH key's public half, as a line of authorized_keys
	WebhookURL string `json:"webhook_url"`    // "": no webhook is listened for
	Secret     string `json:"webhook_secret"` // "": it is not shown
	Page       string `json:"page"`           // with the admin token; "": there is none
}

func pasteCmd(e *Env) *cobra.Command {
	var stateDir, listen, admin string
	var asJSON bool
	c := &cobra.Command{
		Use: "paste", Short: "Print the lines to paste into bellhop.yaml and the git host's settings", GroupID: groupServer, Args: cobra.NoArgs,
		Long: `Print the lines that bellhop serve prints on its first start: the two that go into bellhop.yaml
(the second is the repo's deploy key too), the URL and secret of the repo's webhook, and the address
of the page with its token. Whoever sees them can trigger runs and read the page.`,
		Example: "  bellhop paste\n  bellhop paste --server ssh://box",
		RunE: func(c *cobra.Command, _ []string) error {
			lines, err := findPasting(c.Context(), stateDir, listen, admin)
			if err != nil {
				return err
			}
			if asJSON {
				return e.writeJSON(struct {
					V int `json:"v"`
					pasting
				}{1, lines})
			}
			fmt.Fprint(e.Stdout, lines.text(e.outPaint()))
			return nil
		},
	}
	stateDirFlag(c, &stateDir)
	c.Flags().StringVar(&listen, "listen", ":8080", "address of the webhook, when no server runs")
	c.Flags().StringVar(&admin, "admin", "127.0.0.1:8081", "address of the page, when no server runs")
	serverFlag(c)
	jsonFlag(c, &asJSON)
	return c
}

// findPasting asks the server that runs, or reads the state directory.
func findPasting(ctx context.Context, stateDir, listen, admin string) (pasting, error) {
	client, err := dial(stateDir)
	if err != nil {
		return pasting{}, err
	}

	if client != nil {
		defer client.Close()
		lines, err := server.Call[pasting](ctx, client, "paste", struct{}{}, nil)
		return lines, fromSocket(err)
	}

	st := newState(stateDir)
	signer, err := st.signer()
	if errors.Is(err, fs.ErrNotExist) {
		return pasting{}, hint(fmt.Errorf("no deployer has started in %s yet", stateDir), "bellhop serve --repo URL, or ask another machine: --server ssh://BOX")
	} else if err != nil {
		return pasting{}, err
	}

	ids, err := agefile.Sources{Files: []string{st.identity}, Passphrase: neverAsked}.Load()
	if err != nil {
		return pasting{}, err
	}

	secret, err := readWebhookSecret(st.webhookSecret)
	if err != nil {
		return pasting{}, err
	}

	token, err := readToken(st.path(adminTokenFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pasting{}, err
	}

	return newPasting(ids, signer, webhookURL(listen), secret, pageURL(admin, token)), nil
}

// neverAsked leaves an identity with a passphrase locked: its public half is not known then.
func neverAsked(string) ([]byte, error) { return nil, errors.New("it is not asked for here") }

func newPasting(ids *agefile.Identities, signer ssh.Signer, webhook string, secret []byte, page string) pasting {
	p := pasting{
		Deployer:   strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " bellhop",
		WebhookURL: webhook, Secret: string(secret), Page: page,
	}
	if readers := ids.Recipients(); len(readers) > 0 {
		p.Reader = readers[0]
	}
	return p
}

// pasting is what the server that runs would have pasted.
func (s *serving) pasting() pasting {
	token := ""
	if s.adminTokenFile != "" {
		token, _ = readToken(s.adminTokenFile) // it was read at the start; one that went since is not shown
	}
	return newPasting(s.app.ids, s.app.signer, webhookURL(s.address), s.secret, pageURL(s.adminAddress, token))
}

// pageURL is where a browser on this machine finds the page; "" where there is none.
func pageURL(address, token string) string {
	if address == "" || address == "off" {
		return ""
	}
	return server.AdminPage(fromHere(address), token)
}

// text is the lines as they go into their places.
func (p pasting) text(c paint) string {
	reader := p.Reader
	if reader == "" {
		reader = "# its public half shows once the identity's passphrase was given"
	}

	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nreaders:\n  deployer: %s\ndeployer: %s\n\n", c.dim("# Into bellhop.yaml. The last line's key goes into the repo's settings too, as a deploy key (to read is enough)."), reader, p.Deployer)
	if p.WebhookURL != "" {
		secret := p.Secret
		if secret == "" {
			secret = "(bellhop paste shows it)"
		}
		fmt.Fprintf(&b, "%s\n\nwebhook URL: %s\nwebhook secret: %s\n", c.dim("# The repo's webhook: push events, as application/json."), p.WebhookURL, secret)
	} else {
		fmt.Fprintf(&b, "%s\n", c.dim("# No webhook is listened for (--listen off): bellhop polls."))
	}

	if p.Page != "" {
		fmt.Fprintf(&b, "\npage: %s\n", p.Page)
	}

	return b.String()
}

// printPaste prints the lines until the repo was read for the first time. Where no person reads
// them, the webhook's secret and the page's token stay out of the log that they would end in.
func printPaste(e *Env, s *serving) {
	isFirstDay := len(s.app.made) > 0 || s.app.history.Top() == ""
	if !isFirstDay {
		return
	}

	c := e.outPaint()
	for _, path := range s.app.made {
		fmt.Fprintf(e.Stdout, "%s %s\n", c.dim("made"), path)
	}

	lines := s.pasting()
	if !isTerminal(e.Stdout) {
		lines.Secret, lines.Page = "", pageURL(s.adminAddress, "")
	}

	fmt.Fprintf(e.Stdout, "\nPaste these lines (bellhop paste prints them again):\n\n%s\n", lines.text(c))
}
