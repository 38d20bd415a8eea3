package bundle

import (
	"encoding/json"
	"errors"

	"bellhop/internal/plain"
)

// The wire between the deployer and its helper on the host: one exec, one stream each way.
//
//	helper   → Magic, then Hello
//	deployer → Manifest and Offer, or an Ask
//	helper   → Want                          (an Offer that is refused at once: Result)
//	deployer → Blob with its Data …, End
//	helper   → Event …, Result
//
// A deployer that knows how the host stood last may speak first, on a helper that was started
// for that. In place of the Manifest may come a Delta to the one that stands, and the Offer says how many Blobs follow at once, and that the host may go on without a
// word when nothing else is lacking. Hello then comes after it, without Keys and Last.
//
// A frame is one type byte, the payload's length as a big-endian uint32, and the payload:
// JSON for messages, raw bytes for Data. A message over a kilobyte is deflated when that
// makes it smaller, and its type byte says so: a manifest repeats itself, and the wire of a
// one-line change is mostly manifest. Data never is, so no length tells of a key. The result is truth; the exit code is not.
const (
	// Protocol is the version that a helper of this release speaks. A deployer also speaks the
	// one before it, since a run may have been begun by the former release's helper.
	Protocol       = 1
	OldestProtocol = max(Protocol-1, 1)
	// Magic opens the helper's side. Whatever a login shell printed before it is skipped.
	Magic = "\x00bellhop-host 1\n"
	// MaxNoise is how many bytes before Magic are skipped before giving up.
	MaxNoise = 64 << 10
	// MaxMessage caps the payload of a message frame, bytes.
	MaxMessage = 32 << 20
	// MaxData caps the payload of a Data frame, bytes.
	MaxData = 256 << 10
	// MaxBlob caps a file or an archive that travels, bytes.
	MaxBlob = 1 << 30
	// MaxKey caps the value of a key, bytes: as systemd's own credentials.
	MaxKey = 1 << 20
)

// Frame types.
const (
	FrameHello    byte = 'H'
	FrameManifest byte = 'M'
	FrameDelta    byte = 'P'
	FrameOffer    byte = 'O'
	FrameAsk      byte = 'A'
	FrameWant     byte = 'W'
	FrameBlob     byte = 'B'
	FrameData     byte = 'D'
	FrameEnd      byte = 'E'
	FrameEvent    byte = 'V'
	FrameResult   byte = 'R'
	FrameReply    byte = 'Y'
	FrameSeen     byte = 'S'
)

// A text is one that a helper writes. To the helper it is a string of its own; to the deployer,
// which reads it, it is Foreign. So each message of a helper is one type with two readings.
type text interface{ string | plain.Foreign }

// What a helper writes.
type (
	Hello    = HelloOf[string]
	KeyState = KeyStateOf[string]
	Event    = EventOf[string]
	Result   = ResultOf[string]
	Record   = RecordOf[string]
	Evidence = EvidenceOf[string]
	Origin   = OriginOf[string]
)

// The same as a deployer reads it (wire.HostReader).
type (
	HostHello    = HelloOf[plain.Foreign]
	HostKeyState = KeyStateOf[plain.Foreign]
	HostEvent    = EventOf[plain.Foreign]
	HostResult   = ResultOf[plain.Foreign]
	HostRecord   = RecordOf[plain.Foreign]
	HostEvidence = EvidenceOf[plain.Foreign]
)

// HelloOf is what the helper says first: who it is, and what stands on its host.
type HelloOf[T text] struct {
	Protocol int   `json:"protocol"`
	At       int64 `json:"at,omitempty"` // Unix milliseconds by the host's clock; 0: a former release's, which does not say
	Digest   T     `json:"digest"`       // SHA-256 of the helper's own executable
	Arch     T     `json:"arch"`         // as Go names it: amd64, arm64, arm, riscv64
	BootID   T     `json:"boot_id"`
	Machine  T     `json:"machine,omitempty"` // MachineDigest of its machine id; "" when it has none
	Systemd  int   `json:"systemd"`           // version number, as in 252
	NixOS    bool  `json:"nixos,omitempty"`
	// System is of the host's NixOS system, and of Nix; nil when it has neither, and from a helper of a
	// release that knows nothing of Manifest.System, which must not be offered one.
	System *SystemStateOf[T] `json:"system,omitempty"`
	// Record is nil when the host has none: new, reinstalled or wiped.
	Record *RecordOf[T]    `json:"record,omitempty"`
	Keys   []KeyStateOf[T] `json:"keys,omitempty"` // of the generation that stands
	// Open is the run whose apply is going on or waits to be undone; "" if none.
	Open T `json:"open,omitempty"`
	// Waits says that Open is applied, and waits for AskConfirm.
	Waits bool `json:"waits,omitempty"`
	// Last is the result of the newest run that ended, for a deployer that lost the line.
	Last      *ResultOf[T] `json:"last,omitempty"`
	SwapClear bool         `json:"swap_clear,omitempty"` // KeyDir is a tmpfs, and the host swaps unencrypted
	RAMFS     bool         `json:"ramfs,omitempty"`      // KeyDir is a ramfs
	Looks     bool         `json:"looks,omitempty"`      // it answers AskLook; a helper of a former release does not
}

// KeyStateOf tells how one key of the standing generation does.
type KeyStateOf[T text] struct {
	Name    T     `json:"name"`
	Present bool  `json:"present"`          // file there, owner and mode as wanted
	Since   int64 `json:"since,omitempty"`  // Unix seconds; 0 when not present
	Source  T     `json:"source,omitempty"` // "pushed" or "sealed"
	Unit    T     `json:"unit,omitempty"`   // ActiveState of NAME-key.service
}

// What an Offer asks for.
const (
	ModeDeploy = "deploy" // make the host hold the manifest
	ModeKeys   = "keys"   // only put back the keys of the generation that stands
)

// An Offer is what the host should hold.
type Offer struct {
	Run      string `json:"run"`             // [a-z0-9-]{1,40}
	Mode     string `json:"mode"`            // ModeDeploy or ModeKeys
	Nonce    []byte `json:"nonce,omitempty"` // 32 random bytes, new for each offer of keys
	Base     int64  `json:"base"`            // generation it builds on; a host that stands elsewhere refuses
	Deployer string `json:"deployer"`
	TakeOver bool   `json:"take_over,omitempty"` // accept a host whose record names another deployer
	Digest   string `json:"digest"`              // of the bundle, as the deployer computed it
	// Manifest is WithoutKeyDigests. Where a frame of its own came ahead of the offer, it is that
	// one with the host's name: for a thousand hosts of one kind it is encoded once.
	Manifest Manifest `json:"manifest"`
	// Delta came ahead in place of the manifest: it is made of the one that stands, and gets the
	// host's name.
	Delta *Delta `json:"-"`
	// Last is the manifest that the deployer remembers, sent only when the host has no record:
	// what equals it is adopted, anything else counts as there before bellhop.
	Last *Manifest `json:"last,omitempty"`
	// Formerly is the host's name in its record when the repo no longer has that name: a
	// rename. Without it, a record of another host is refused.
	Formerly string `json:"formerly,omitempty"`
	// AllowPrune lets the run remove more than half of what the host has.
	AllowPrune bool `json:"allow_prune,omitempty"`
	// Ahead is how many Blobs of files follow at once, unasked. With Go, a host that lacks
	// nothing else, and has no keys, skips Want and End.
	Ahead int  `json:"ahead,omitempty"`
	Go    bool `json:"go,omitempty"`
	// Confirm is for how many milliseconds the host waits for AskConfirm once the bundle is
	// applied, before it goes back by itself; 0: it does not wait.
	Confirm int64 `json:"confirm_ms,omitempty"`
	// Origins come with a composed bundle: the commit of each service. The record gets them.
	Origins []Origin `json:"origins,omitempty"`
	// Held are the services of a composed bundle that stay as they are, since something of them failed:
	// what does not run of them is not started.
	Held []string `json:"held,omitempty"`
	// Isolates says that the deployer offers the rest anew where the host refuses services of the offer. Without it the
	// host brings by itself what it can where a service's user bars the way, and the run ends as failed.
	Isolates bool `json:"isolates,omitempty"`
	// After is the first run of a deployer's run that was undone before, where this one is another
	// try without what failed. A step (Service.Before) that ran for it, for the same service digest, is
	// not run again.
	After string `json:"after,omitempty"`
	// NoBefore leaves out the steps that come before services: the bundle brings back what was there.
	NoBefore bool `json:"no_before,omitempty"`
}

// Want answers an Offer: what the host lacks.
type Want struct {
	Files    []string `json:"files,omitempty"`    // digests
	Packages []string `json:"packages,omitempty"` // digests
	// Keys holds KeyMAC(nonce, value) for each key that is there with the right owner
	// and mode. The deployer, which has the plaintext, sends what is missing or differs.
	Keys map[string][]byte `json:"keys,omitempty"`
}

// Kinds of a Blob.
const (
	BlobFile    = "file"
	BlobPackage = "package"
	BlobKey     = "key"
)

// A Blob announces bytes that follow in Data frames, Size in all.
type Blob struct {
	Kind string `json:"kind"`
	Name string `json:"name"` // digest, or the key's name
	Size int64  `json:"size"`
}

// EventOf is one line of progress.
type EventOf[T text] struct {
	At   int64 `json:"at"`             // Unix milliseconds by the host's clock
	Step T     `json:"step"`           // preflight before begin stop keep accounts files tmpfiles keys reload system start health applied confirm done undo wait restart
	Text T     `json:"text,omitempty"` // for people
}

// What came of a run on the host.
const (
	OutcomeDone       = "done"        // a new generation stands
	OutcomeNothing    = "nothing"     // it stood already; the record was rewritten
	OutcomeRefused    = "refused"     // preflight said no; nothing was touched
	OutcomeRolledBack = "rolled-back" // it failed, and the generation before it stands again
	OutcomeFailed     = "failed"      // it failed, and could not be undone whole
	// OutcomeUnconfirmed is that nobody confirmed the run in time, and what stood before stands again.
	OutcomeUnconfirmed = "unconfirmed"
)

// Why a run was refused.
const (
	RefusedBase     = "base"     // the host stands at another generation: plan again
	RefusedDeployer = "deployer" // the record names another deployer
	RefusedNetwork  = "network"  // the record names another network or host
	RefusedBusy     = "busy"     // another run is at work
	RefusedBundle   = "bundle"   // the bundle can't stand here: owner, mask, command, prune
	RefusedBefore   = "before"   // a step before a service failed; Failing names the services
	RefusedRegistry = "registry" // images did not come, which may pass by itself; Failing names the services
)

// ResultOf is what came of a run on one host.
type ResultOf[T text] struct {
	Run       T               `json:"run"`
	Outcome   T               `json:"outcome"`
	Refused   T               `json:"refused,omitempty"`
	Error     T               `json:"error,omitempty"`
	Cause     T               `json:"cause,omitempty"`    // why it failed, where Error says also why it could not be undone
	CutOff    bool            `json:"cut_off,omitempty"`  // the run was killed, by a power cut or by whoever, and undone: not the bundle's fault
	Record    *RecordOf[T]    `json:"record,omitempty"`   // what stands now; nil with OutcomeDone: the host was given back
	Changed   []T             `json:"changed,omitempty"`  // things by their Name, as Change has it
	Restored  []T             `json:"restored,omitempty"` // edited by hand on the host, put back
	Edits     []T             `json:"edits,omitempty"`    // for each of those, where the host keeps what it held; "" when it was gone
	Kept      []T             `json:"kept,omitempty"`     // accounts and homes that stay after a service left
	Started   []T             `json:"started,omitempty"`
	Stopped   []T             `json:"stopped,omitempty"`
	Restarted []T             `json:"restarted,omitempty"`
	Reloaded  []T             `json:"reloaded,omitempty"`
	Drifted   []T             `json:"drifted,omitempty"` // units stopped by hand, left so
	Warnings  []T             `json:"warnings,omitempty"`
	Keys      []KeyStateOf[T] `json:"keys,omitempty"`
	Evidence  []EvidenceOf[T] `json:"evidence,omitempty"` // of what failed
	Failing   []T             `json:"failing,omitempty"`  // services that a rollback is due to; empty when that is not known
	// Barred are those of Failing whose users bar the way to a path of theirs: that says nothing of other hosts.
	Barred     []T             `json:"barred,omitempty"`
	Units      []UnitSeenOf[T] `json:"units,omitempty"` // with OutcomeDone, how each unit does; empty where none was watched
	Fsyncs     int             `json:"fsyncs,omitempty"`
	TookMillis int64           `json:"took_ms"`
}

// Verbs of an Ask.
const (
	AskManifest = "manifest" // Reply.Manifest: of the generation that stands
	AskAttach   = "attach"   // events and result of Run follow
	AskVoid     = "void"     // attach, where Run was begun; else it can't begin any more, and an empty Reply proves it
	AskUndo     = "undo"     // give the host back: everything bellhop owns leaves, originals return
	AskCheck    = "check"    // Reply.Facts
	// AskConfirm says that Run may keep what it applied. Reply.Error is empty when the run stays, or
	// is done already.
	AskConfirm = "confirm"
	AskLook    = "look" // a Seen; Ask.Look says what more it wants. Only where Hello.Looks
	// AskRestart restarts the units of Service: events and a result follow, and no generation is made.
	AskRestart = "restart"
)

// An Ask is anything but an offer.
type Ask struct {
	Verb    string `json:"verb"`
	Run     string `json:"run,omitempty"`
	Look    *Look  `json:"look,omitempty"`    // of AskLook; nil is the zero Look
	Service string `json:"service,omitempty"` // of AskRestart
}

// A Reply answers an Ask that wants no run.
type Reply struct {
	Manifest *Manifest         `json:"manifest,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// ErrNoMagic says that the other side never spoke as a helper does.
var ErrNoMagic = errors.New("no bellhop helper answered")

// Present counts the keys that are there.
func Present(keys []KeyState) int {
	n := 0
	for _, k := range keys {
		if k.Present {
			n++
		}
	}

	return n
}

// Unmarshal decodes one message payload; unknown fields are let pass, so that a newer end
// may say more.
func Unmarshal(p []byte, v any) error { return json.Unmarshal(p, v) }
