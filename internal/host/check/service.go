package check

import (
	"errors"
	"fmt"
	"math"
	"time"

	"bellhop/internal/bundle"
)

const (
	maxProbes  = 100
	maxSteps   = 100
	maxCommand = 64 << 10 // bytes
	maxMillis  = math.MaxInt64 / int64(time.Millisecond)
)

// checkService says what is wrong with how a service is to be started and judged. Its name becomes
// that of a unit.
func checkService(s bundle.Service) error {
	if !packageName.MatchString(s.Name) {
		return errors.New("bad name")
	}
	if len(s.Probes) > maxProbes || len(s.Before) > maxSteps {
		return fmt.Errorf("%d probes and %d steps", len(s.Probes), len(s.Before))
	}
	if s.Settle != nil {
		if err := millis(*s.Settle); err != nil {
			return err
		}
	}

	if s.Compose != nil {
		if err := checkStack(s.Compose); err != nil {
			return err
		}
	}
	for _, p := range s.Probes {
		if err := checkProbe(p); err != nil {
			return err
		}
	}
	for _, b := range s.Before {
		if err := firstError(checkCommand(b.Command, b.User), millis(b.Timeout)); err != nil {
			return err
		}
	}
	return nil
}

func checkProbe(p bundle.Probe) error {
	kinds := 0
	for _, asks := range []string{p.HTTP, p.TCP, p.Command} {
		if asks != "" {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("a probe of %d kinds", kinds)
	}
	if p.Command != "" {
		if err := checkCommand(p.Command, p.User); err != nil {
			return err
		}
	}
	return firstError(millis(p.Interval), millis(p.Timeout), millis(p.Grace))
}

func checkCommand(text, user string) error {
	if text == "" || len(text) > maxCommand {
		return fmt.Errorf("a command of %d bytes", len(text))
	}
	if user != "" && !bundle.AccountName.MatchString(user) {
		return fmt.Errorf("user %q", user)
	}
	return nil
}

func millis(n int64) error {
	if n < 0 || n > maxMillis {
		return fmt.Errorf("a time of %d ms", n)
	}
	return nil
}
