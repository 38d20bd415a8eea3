package page

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ParsePublicURL reads --public-url: the address at which people reach the page. The result has no slash at its end; "" is
// none. An address that holds a login or a token is refused, since it is sent to messengers and forges.
func ParsePublicURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}

	u, err := url.Parse(text)
	isWeb := err == nil && (u.Scheme == "https" || u.Scheme == "http")
	if !isWeb || u.Host == "" {
		return "", errors.New("read --public-url: want the address of the page as browsers have it, as in https://bellhop.example.org")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("read --public-url: want no login, ? or # in it, since links with it are sent to others: https://%s%s", u.Host, u.Path)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// PublicHosts are the names by which people reach the page besides localhost.
func PublicHosts(address string) []string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []string{u.Hostname()}
}

// RunURL is the address of a run's page; "" where the page has no public address.
func RunURL(publicURL, run string) string {
	if publicURL == "" || run == "" {
		return ""
	}
	return publicURL + "/runs/" + url.PathEscape(run)
}
