package rest_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/forge/rest"
)

// How long a forge asks to wait is read in each way that it may be written, is at most an hour, and is never less than nothing.
func TestWaitOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
		for name, c := range map[string]struct {
			header map[string]string
			want   time.Duration
		}{
			"nothing":                 {nil, 0},
			"seconds":                 {map[string]string{"Retry-After": "90"}, 90 * time.Second},
			"a date":                  {map[string]string{"Retry-After": now.Add(2 * time.Minute).UTC().Format(http.TimeFormat)}, 2 * time.Minute},
			"a date that is over":     {map[string]string{"Retry-After": now.Add(-time.Hour).UTC().Format(http.TimeFormat)}, 0},
			"a day":                   {map[string]string{"Retry-After": "86400"}, time.Hour},
			"less than nothing":       {map[string]string{"Retry-After": "-5"}, 0},
			"no number":               {map[string]string{"Retry-After": "soon"}, 0},
			"more than any number":    {map[string]string{"Retry-After": "99999999999999999999"}, 0},
			"GitHub's limit":          {map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": at(5 * time.Minute)}, 5 * time.Minute},
			"GitLab's limit":          {map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": at(time.Minute)}, time.Minute},
			"a limit that is not met": {map[string]string{"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": at(5 * time.Minute)}, 0},
			"a limit far away":        {map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": at(9000 * time.Hour)}, time.Hour},
			"an odd limit":            {map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "tomorrow"}, 0},
		} {
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			if got := rest.WaitOf(h); got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	})
}
