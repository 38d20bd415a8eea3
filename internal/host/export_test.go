package host

import "time"

func init() { settleTime = 2 * time.Millisecond } // nothing of a test's box dies later
