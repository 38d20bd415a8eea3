package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"bellhop/server"
)

// healthcheckCmd is for images without a shell.
func healthcheckCmd(e *Env) *cobra.Command {
	var listen, stateDir string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 if the server here answers", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return healthy(c.Context(), listen, stateDir) },
	}
	c.Flags().StringVar(&listen, "listen", ":8080", "the server's --listen")
	stateDirFlag(c, &stateDir)
	return c
}

func healthy(ctx context.Context, listen, stateDir string) error {
	if listen == "off" {
		client, err := server.Dial(stateDir)
		if err != nil {
			return err
		}
		return client.Close()
	}

	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+fromHere(listen)+"/healthz", nil)
	if err != nil {
		return err
	}

	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return hint(err, "give --listen ADDRESS, or BELLHOP_LISTEN, as the server has it")
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /healthz: %s", res.Status)
	}

	return nil
}
