package link

import "context"

// Each runs work on all targets, at most parallel at once, and returns what each said in
// the order of targets.
func Each[T any](ctx context.Context, targets []Target, parallel int, work func(context.Context, Target) T) []T {
	out := make([]T, len(targets))
	slots := make(chan struct{}, max(parallel, 1))
	done := make(chan struct{})
	for i, t := range targets {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots; done <- struct{}{} }()
			out[i] = work(ctx, t)
		}()
	}

	for range targets {
		<-done
	}

	return out
}
