package bundle

import (
	"bellhop/internal/plain"
)

// A look reads a host between runs: what differs there from what bellhop put in place, how its units and
// keys do, and whether it wants a reboot. It changes nothing on the host. The deployer sends an Ask with
// the verb AskLook to a helper whose Hello says Looks; the answer is one Seen, or a Reply with an error.

// Bounds of what one look brings of the bytes of files.
const (
	MaxLookPaths = 64        // of Look.Contents
	MaxLookFile  = 256 << 10 // bytes of one file
	MaxLookBytes = 1 << 20   // bytes of all files of one look
)

// MaxDrift is how many entries of Seen.Drift one look brings; DriftMore counts the others.
const MaxDrift = 1000

// A Look says what an AskLook wants beside what each look brings.
type Look struct {
	// Verify has every owned file read, also those that have the times, size and inode that they had
	// when bellhop wrote them.
	Verify bool `json:"verify,omitempty"`
	// Contents are owned paths whose bytes are wanted, at most MaxLookPaths.
	Contents []string `json:"contents,omitempty"`
}

// What a helper writes of a look.
type (
	Seen       = SeenOf[string]
	Drift      = DriftOf[string]
	FailedUnit = FailedUnitOf[string]
	UnitSeen   = UnitSeenOf[string]
	Content    = ContentOf[string]
)

// HostSeen is the same as a deployer reads it (wire.HostReader). wire.FilterSeen makes a Seen of it.
type HostSeen = SeenOf[plain.Foreign]

// SeenOf is what a look saw on a host.
type SeenOf[T text] struct {
	BootID         T    `json:"boot_id"`
	RebootRequired bool `json:"reboot_required,omitempty"`
	RebootReason   T    `json:"reboot_reason,omitempty"` // why a reboot is required, for people

	// Working says that a run is at work, so that files and units are about to change: Drift,
	// KeysMissing and Contents are empty, and nothing follows from that. A run that is applied and
	// waits for AskConfirm is not at work: the host is compared with what that run put in place.
	Working    bool  `json:"working,omitempty"`
	Generation int64 `json:"generation,omitempty"` // that the host was compared with; 0: it has no record

	Running     int               `json:"running"`          // units of bellhop's that run, key units aside
	FailedUnits []FailedUnitOf[T] `json:"failed,omitempty"` // of bellhop's, sorted by name
	Drift       []DriftOf[T]      `json:"drift,omitempty"`  // sorted by kind and name
	DriftMore   int               `json:"drift_more,omitempty"`
	KeysMissing []T               `json:"keys_missing,omitempty"` // names of keys that are not there, or not with their owner and mode
	Contents    []ContentOf[T]    `json:"contents,omitempty"`     // of Look.Contents, in that order
	Read        int               `json:"read,omitempty"`         // files whose bytes were read to compare them
	// Units are how each unit and each container of the bundle does, key units aside. A helper of a former release
	// tells none.
	Units []UnitSeenOf[T] `json:"units,omitempty"`
}

// DriftCount is how many things differ, those that are not listed among them.
func (s *SeenOf[T]) DriftCount() int { return len(s.Drift) + s.DriftMore }

// FailedUnitOf is a unit in the state "failed".
type FailedUnitOf[T text] struct {
	Name   T     `json:"name"`
	Result T     `json:"result,omitempty"` // as systemd names it: exit-code, signal, oom-kill, …
	Since  int64 `json:"since,omitempty"`  // Unix seconds; 0: systemd does not say
}

// UnitSeenOf is how a unit does, or a container, which is named SERVICE:CONTAINER.
type UnitSeenOf[T text] struct {
	Name   T `json:"name"`
	Active T `json:"active"`        // as systemd has it: active, inactive, failed, activating, …
	Sub    T `json:"sub,omitempty"` // the same more exactly: running, exited, dead, …; of a container, what its engine says
}

// Kinds of things in Drift alone.
const (
	KindDir       = "dir"       // a folder
	KindContainer = "container" // of a compose service, as SERVICE:CONTAINER
)

// What can be different about a thing that bellhop put on a host.
const (
	DriftMissing  = "missing"  // it is not there
	DriftChanged  = "changed"  // other bytes; of a link: another target
	DriftReplaced = "replaced" // something of another kind stands there: a folder, a link in place of a file
	DriftMode     = "mode"
	DriftOwner    = "owner"
	DriftGroup    = "group"    // of an account: another primary group
	DriftHome     = "home"     // of an account
	DriftUID      = "uid"      // of an account whose uid the repo names. No run changes it
	DriftGID      = "gid"      // the same of its primary group
	DriftShell    = "shell"    // of an account that bellhop made: somebody can log in. No run changes it
	DriftJoined   = "groups"   // of an account that bellhop made: Is are groups that it joined. No run changes it
	DriftBarred   = "barred"   // a user of the host keeps the path from being reached
	DriftStopped  = "stopped"  // a unit that should run does not, and did not fail
	DriftDisabled = "disabled" // a unit that should be enabled is not
	DriftMasked   = "masked"
	DriftProfile  = "profile" // of a system: the profile names another, which the next boot brings
	DriftDropIn   = "drop-in" // of a unit of bellhop's: a drop-in that is not; Is is its path. No run takes it away
)

// DriftOf is one thing that differs from what bellhop put in place. A thing that differs in several ways
// has an entry for each.
type DriftOf[T text] struct {
	Kind T `json:"kind"` // file dir link unit package account system container
	Name T `json:"name"` // path of a file, dir or link, else the name
	What T `json:"what"`
	Want T `json:"want,omitempty"` // of modes, owners, targets, groups and homes: as it should be
	Is   T `json:"is,omitempty"`
}

// ContentOf is the bytes of a file, or why they do not come.
type ContentOf[T text] struct {
	Bytes []byte `json:"bytes,omitempty"`
	Why   T      `json:"why,omitempty"` // "" where Bytes are the whole file, which may be empty
}

// Why bytes of a file do not come.
const (
	WhyNotOwned   = "bellhop does not own that path"
	WhyKey        = "holds a key"
	WhyMissing    = "is not there"
	WhyNotRegular = "is not a regular file"
	WhyTooLarge   = "is too large"
	WhyWorking    = "a run is at work"
)
