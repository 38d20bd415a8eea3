package privatefile

// MountsAt makes dir the place of a container engine's secrets, until the returned func is called.
func MountsAt(dir string) (undo func()) {
	was := mounts
	mounts = []string{dir}
	return func() { mounts = was }
}
