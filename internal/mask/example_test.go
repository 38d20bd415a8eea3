package mask_test

import (
	"fmt"

	"bellhop/internal/mask"
)

// A Filter takes the values that a host was sent out of what the host says.
func ExampleFilter() {
	var f mask.Filter
	f.Add("db.password", []byte("correct horse battery staple"))
	fmt.Println(f.Text("login failed for correct horse battery staple\x1b[2J"))
	// Output: login failed for ‹key db.password›
}
