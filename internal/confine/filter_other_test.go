//go:build !linux || (!amd64 && !arm64)

package confine

import "errors"

func forbidden() error { return errors.ErrUnsupported }
