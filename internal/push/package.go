package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/durable"
)

// Bounds on fetching packages.
const (
	fetchTimeout = 10 * time.Minute
	cacheCap     = 8 << 30 // bytes of packages kept; the oldest go first
	redirects    = 5
)

// Packages Packages each package once, however many hosts want it at the same time.
type packages struct {
	group singleflight.Group
	mu    sync.Mutex // one pruner
}

// get returns the path of a package in the cache. What stands there has the digest that it
// is named by, since only a file that was checked gets the name.
func (f *packages) get(ctx context.Context, p *Pusher, pkg bundle.Package) (string, error) {
	path := filepath.Join(p.Cache, pkg.Digest)
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		os.Chtimes(path, now, now) // the newest are kept
		return path, mistaken(pkg, path)
	}
	ch := f.group.DoChan(pkg.Digest, func() (any, error) {
		// Others wait for this too, so the end of one host's patience does not end it.
		fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		defer cancel()
		return nil, f.fetch(fctx, p, pkg, path)
	})
	select {
	case res := <-ch:
		if res.Err != nil {
			return "", res.Err
		}
		return path, mistaken(pkg, path)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// mistaken is why a package that would be installed as it is can't be meant so.
func mistaken(p bundle.Package, file string) error {
	if p.Kind != archive.File || p.Named {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	head := make([]byte, archive.SniffLen)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	name := p.URL
	if u, err := url.Parse(p.URL); err == nil {
		name = u.Path
	}
	if why := archive.Mistaken(name, head[:n]); why != "" {
		return refused(fmt.Errorf("fetch %s: %s", p.URL, why))
	}

	return nil
}

func (f *packages) fetch(ctx context.Context, p *Pusher, pkg bundle.Package, path string) error {
	if p.Cache == "" {
		return errors.New("no directory is set to fetch packages to")
	}
	if err := os.MkdirAll(p.Cache, 0o700); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := download(ctx, p.client(), pkg, path)
		if err == nil {
			f.prune(p.Cache, path)
			return nil
		}
		if FateOf(err) == Refused || try == attempts || !pause(ctx, p.Limits.Retry<<(try-1)) {
			return err
		}
	}
}

func download(ctx context.Context, client *http.Client, p bundle.Package, path string) error {
	u, err := url.Parse(p.URL)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" {
		return refused(fmt.Errorf("fetch %q: only http and https are fetched", p.URL))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return refused(err)
	}
	req.Header.Set("User-Agent", "bellhop")
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		err := fmt.Errorf("fetch %s: %s", u.Redacted(), res.Status)
		isOurFault := res.StatusCode >= 400 && res.StatusCode < 500
		mayPass := res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout
		if isOurFault && !mayPass {
			return refused(err)
		}
		return err
	}

	return keepChecked(res.Body, p, path)
}

// keepChecked writes a package beside its place and gives it its name when its digest is
// right.
func keepChecked(r io.Reader, p bundle.Package, path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), io.LimitReader(r, bundle.MaxBlob+1))
	if err != nil {
		return fmt.Errorf("fetch %s: %w", p.URL, err)
	}
	if n > bundle.MaxBlob {
		return refused(fmt.Errorf("fetch %s: more than the cap of %d bytes", p.URL, int64(bundle.MaxBlob)))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.Digest {
		return refused(fmt.Errorf("fetch %s: sha256 is %s, the repo says %s", p.URL, got, p.Digest))
	}

	return durable.Name(tmp, path, 0o600)
}

// prune drops the oldest packages when there is more than the cap.
func (f *packages) prune(dir, but string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var infos []os.FileInfo
	total := int64(0)
	for _, e := range entries {
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() {
			infos = append(infos, i)
			total += i.Size()
		}
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, i := range infos {
		path := filepath.Join(dir, i.Name())
		if total <= cacheCap || path == but {
			continue
		}
		if os.Remove(path) == nil {
			total -= i.Size()
		}
	}
}

func (p *Pusher) client() *http.Client {
	if p.Client != nil {
		c := *p.Client
		c.CheckRedirect = checkRedirect
		return &c
	}

	return defaultClient
}

// defaultClient carries no cookie and no token: what the repo names never sees a credential.
var defaultClient = &http.Client{
	CheckRedirect: checkRedirect,
	Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // the digest is of what is sent
	},
}

// schemes are what packages are fetched by. What comes by http is as good as what comes by https: its
// sum stands in the repo.
var schemes = []string{"https", "http"}

// checkRedirect follows no redirect from https to http, and none from the world into a network of
// the deployer's own: the repo names the server that is asked, and that server must not
// choose what else is reached from here. A package server inside may redirect inside. Whose
// name changes its address between this look and the dial still needs a certificate for it.
func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL
	if req.URL.Scheme != "https" && req.URL.Scheme != last.Scheme {
		return refused(fmt.Errorf("redirected from %s to %s: only https is followed", last.Scheme, req.URL.Scheme))
	}
	if len(via) > redirects {
		return errors.New("too many redirects")
	}
	from, to := via[0].URL.Hostname(), req.URL.Hostname()
	if from == to || !inside(req.Context(), to) || inside(req.Context(), from) {
		return nil
	}

	return refused(fmt.Errorf("%s redirects to %s, which is in a network of the deployer's own", from, to))
}

// inside says that a name leads to an address that the world can't reach.
func inside(ctx context.Context, name string) bool {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return false // then nothing is dialled either, or a proxy knows better
	}
	return slices.ContainsFunc(ips, func(ip netip.Addr) bool {
		ip = ip.Unmap()
		return !ip.IsGlobalUnicast() || ip.IsPrivate() || overlay.Contains(ip)
	})
}

// overlay is what carriers and overlay networks use (RFC 6598).
var overlay = netip.MustParsePrefix("100.64.0.0/10")

// A PackageError says that a package can't be had, or not be sent.
type PackageError struct {
	Package bundle.Package
	err     error
}

func (e *PackageError) Error() string { return "package " + e.Package.Name + ": " + e.err.Error() }

func (e *PackageError) Unwrap() error { return e.err }

// fetchPackage opens a package of the cache, fetched first if it is not there.
func (p *Pusher) fetchPackage(ctx context.Context, pkg bundle.Package) (io.ReadCloser, int64, error) {
	path, err := p.Memory.packages.get(ctx, p, pkg)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}

	return f, st.Size(), nil
}
