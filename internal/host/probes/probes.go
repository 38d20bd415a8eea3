// Package probes asks whether services work, from the host itself.
//
// A probe is asked once at a time; who asks says when it is asked again, and what its answers mean.
// The promise: a probe reaches what its address names and nothing else. No proxy of the
// environment is used, no redirect to another host is followed, and of an answer no more than
// machine.MaxBody is kept.
package probes

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A Prober asks probes from the computer that it runs on. A Prober is not copied.
type Prober struct {
	Commands machine.Commands // that run the commands of probes; nil: there are none

	mu    sync.Mutex
	units map[string]*sync.Mutex // held while a command runs in the unit of that name
}

// Ask asks p once.
func (o *Prober) Ask(ctx context.Context, p bundle.Probe) machine.Answer {
	began := time.Now()
	var a machine.Answer
	switch {
	case p.HTTP != "":
		a = askHTTP(ctx, p)
	case p.TCP != "":
		a = askTCP(ctx, p)
	case o.Commands != nil:
		return o.askCommand(ctx, p)
	default:
		return machine.Answer{Wrong: "this host runs no commands"}
	}

	if a.Wrong != "" && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		a.Wrong = fmt.Sprintf("no answer within %v", time.Since(began).Round(time.Millisecond))
	}

	return a
}

func askTCP(ctx context.Context, p bundle.Probe) machine.Answer {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.TCP)
	if err != nil {
		return machine.Answer{Wrong: err.Error()}
	}
	conn.Close()
	return machine.Answer{}
}

func askHTTP(ctx context.Context, p bundle.Probe) machine.Answer {
	want := cmp.Or(p.Status, bundle.DefaultStatus)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.HTTP, nil)
	if err != nil {
		return machine.Answer{Wrong: err.Error()}
	}

	req.Header.Set("User-Agent", "bellhop")

	resp, err := client(want).Do(req)
	if err != nil {
		return machine.Answer{Wrong: plainly(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode == want {
		return machine.Answer{Status: resp.StatusCode}
	}

	body, _ := io.ReadAll(io.LimitReader(resp.Body, machine.MaxBody)) // what came before it broke off explains too
	wrong := fmt.Sprintf("status %d, want %d", resp.StatusCode, want)
	if to, err := resp.Location(); err == nil && to.Host != req.URL.Host {
		wrong += ": it leads to another host, where a probe does not follow"
	}

	return machine.Answer{Wrong: wrong, Status: resp.StatusCode, Body: strings.ToValidUTF8(string(body), "�")}
}

// client asks over a connection of its own, so that a service that was restarted is not asked over
// one to what ran before. It follows redirects on one host, unless one is what is wanted.
func client(want int) *http.Client {
	wantsRedirect := want >= 300 && want < 400
	return &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if wantsRedirect || req.URL.Host != via[0].URL.Host || len(via) >= 10 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// plainly is err without the method and address, which the name of the probe says.
func plainly(err error) string {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}
