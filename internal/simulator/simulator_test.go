package simulator

import (
	"flag"
	"fmt"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
)

var (
	seedCount = flag.Int("seeds", 0, "how many seeds TestSimulator and TestASeedReplays run; 0: 500 and 12, a tenth of them with -race or -short")
	fromSeed  = flag.Int("from", 0, "the first of the seeds that TestSimulator and TestASeedReplays run")
	oneSeed   = flag.Int64("seed", -1, "the one seed that TestSimulator runs; with -v it tells what happened")
	withSteps = flag.Bool("steps", false, "with -v, what happened has the steps of runs too")
)

const usualSeeds = 500

// Rules say what may happen in a world. A seed makes the same world by the same rules only.
type rules int

const (
	beforePersons rules = iota // nobody brings hosts back, pauses, looks, …
	byRunID                    // how long a host takes depends on the id of the run, and on who dialled first at one instant
	beforeKeys                 // no service has a key
	withKeys

	today = withKeys
)

// onceFailed are seeds that found a bug which is mended, the rules of that day, and what it was.
var onceFailed = []struct {
	seed  uint64
	rules rules
	bug   string
}{
	{3, beforePersons, "a run that was rung for at the very end of the gap was asked for without a pause"},
	{66, beforePersons, "a line that was begun while the deployer's network was away made a good bundle one that cuts its host off"},
	{566, beforePersons, "what came of a push that outlasted its host's time was dropped, and its bundle begun again, for ever"},
	{1144, beforePersons, "what a host held when it ended took the place of what another deployer had put there by the time that it was heard"},
	{1607, beforePersons, "without a service that failed on another host, what was left was tried, though it had failed here before"},
	{1709, beforePersons, "a host whose lost push ended while it was asked for that was believed to hold what it had held before"},
	{2136, beforePersons, "what was left of a commit without its bad service was tried, though an older commit had been just that and had failed"},
	{1968, beforePersons, "the rest of a commit that failed without its bad service was tried again as a commit of its own"},
	{2060, beforePersons, "the record of a host was heard and forgotten, since the line broke before it could refuse"},
	{2183, beforePersons, "a host that a run stopped before was never asked how a push ended there that was lost"},
	{2213, beforePersons, "a host that the prune guard refused was never asked how a push ended there that was lost"},
	{82, byRunID, "a bundle that had failed was tried again on its host under another name"},
	{120, byRunID, "a host that had got another name needed bytes of a commit that knows it by its former one"},
	{47, byRunID, "a host that had got another name had never held anything by its status"},
	{86, withKeys, "a host that was heard under its new name was away since it had its former one"},
	{126, withKeys, "a dial that failed beside a line that was up left its host away for ever"},
	{135, withKeys, "a host that a push did not reach while its line was up waited for the line to come up"},
	{276, withKeys, "a host that had got another name was said to lack a service, and was never asked"},
	{277, withKeys, "a host that had got two names one after the other lost its hold and its keys"},
	{369, withKeys, "a host that a push did not reach while its line was up was away for ever once nothing was to be pushed"},
	{1020, withKeys, "a host that got another name while it was held, and was made anew, was held no longer"},
	{1049, withKeys, "a host that was made anew while it was held, and got another name, was held no longer"},
	{1257, withKeys, "an older run pushed a host under its former name, and took from its new name all that was known of it"},
	{824, withKeys, "a host that was heard while it waited to be confirmed was cut off since lines before and after that broke"},
	{850, withKeys, "a run was open for ever on a host that left the repo and could not be asked when bellhop began"},
	{1823, withKeys, "an older run came to a host under a name that was gone, and took from its new name all that was known of it"},
	{2104, withKeys, "a host that got another name and was away, and that a stopped run did not come to, lacked its keys when it was back"},
	{2400, withKeys, "a host that was pushed to once, and whose end nobody heard, lacked its keys after a reboot once the next commit failed there"},
	{3553, withKeys, "a host whose first push was lost, and that a stopped run did not come to then, lacked its keys when it was back"},
	{3852, withKeys, "a host that rebooted, and whose line broke, lacked the keys that it holds once the head, which failed there, has none"},
	{4202, withKeys, "a bundle was said to cut its host off, since something else could be reached before the deployer's network went away"},
	{4226, withKeys, "the commit of a push whose end was not heard was forgotten with the next one, and the host lacked its keys after a reboot"},
	{4833, withKeys, "a host that was held under its second name could not be brought back under its third"},
	{5542, withKeys, "a host whose run was cancelled under its new name was begun once it was heard, since none was under its former name"},
	{7016, withKeys, "a host that was resumed while runs were paused did not get the head afterwards, since a run had stopped before it"},
	{7862, withKeys, "a host whose first push was lost, and that got another name, lacked its keys after a reboot"},
	{8679, withKeys, "a deployer that had planned nothing yet took the past of a host from its new name, and its hold"},
	{2726, withKeys, "a service was started on another host, though it had failed on one that was undone as a whole"},
	{1666, withKeys, "a host with a service that is held back was behind, with no word of that, once a rollback was cancelled before it"},
}

// onceBlamed are seeds of worlds in which nothing was wrong, though the checker said so.
var onceBlamed = []struct {
	seed  uint64
	rules rules
	why   string
}{
	{554, byRunID, "a world that failed when people came to it"},
	{2596, beforePersons, "a world that failed before people came to it"},
	{156, byRunID, "a world that failed when people came to it"},
	{168, byRunID, "a world that failed when people came to it"},
	{177, byRunID, "a world that failed when people came to it"},
	{213, byRunID, "a world that failed when people came to it"},
	{598, beforeKeys, "a run was cancelled when the remote showed another commit already, which may be deployed"},
	{108, withKeys, "the same, with keys"},
	{11, withKeys, "a host whose power came back at once kept its line in the model"},
	{179, withKeys, "of a file that its host refuses and a key that fails elsewhere only the key counted"},
	{2889, withKeys, "a run that brings a host back was cancelled while the host was away"},
	{6267, withKeys, "two hosts that take minutes were not done when the checker looked"},
	{7436, withKeys, "a host whose network goes away while it waits to be confirmed looks as if its bundle did that"},
	{7964, withKeys, "what came of a host that takes minutes was not heard yet when the checker looked"},
	{8869, withKeys, "a host was taken by another deployer while it said who has it"},
	{9910, withKeys, "a run that a person asked for waited when the run before it was cancelled"},
	{468, withKeys, "a host that was made anew and got another name is a new host"},
}

// Promise 1: no push is lost, and running a run again changes nothing. A seed that fails is printed with
// the command that replays it.
func TestSimulator(t *testing.T) {
	if *oneSeed >= 0 {
		replay(t, uint64(*oneSeed), today)
		return
	}

	n := *seedCount
	if n == 0 {
		n = usualSeeds
		if raceEnabled || testing.Short() {
			n /= 10
		}
	}
	for seed := *fromSeed; seed < *fromSeed+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { replay(t, uint64(seed), today) })
	}
}

// Each of these found a bug once.
func TestSeedsThatOnceFailed(t *testing.T) {
	for _, s := range onceFailed {
		t.Run(fmt.Sprint(s.seed), func(t *testing.T) {
			t.Log(s.bug)
			replay(t, s.seed, s.rules)
		})
	}
}

// The checker calls nothing wrong that is right.
func TestSeedsThatWereBlamed(t *testing.T) {
	for _, s := range onceBlamed {
		t.Run(fmt.Sprint(s.seed), func(t *testing.T) {
			t.Log(s.why)
			replay(t, s.seed, s.rules)
		})
	}
}

// The same seed makes the same world: what happens, when, and what comes of it.
func TestASeedReplays(t *testing.T) {
	n := 12
	switch {
	case *seedCount != 0:
		n = *seedCount
	case raceEnabled || testing.Short():
		n = 3
	}
	for seed := *fromSeed; seed < *fromSeed+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			first := replay(t, uint64(seed), today)
			second := replay(t, uint64(seed), today)
			if first.hash() == second.hash() {
				return
			}
			t.Errorf("seed %d has the hash %.12s, and %.12s when it is run again", seed, first.hash(), second.hash())
			t.Log(first.firstDifference(second))
		})
	}
}

// replay runs one seed, and returns what happened.
func replay(t *testing.T, seed uint64, rules rules) *trace {
	t.Helper()
	var tr *trace
	again := "TestSimulator$"
	if rules != today {
		again = fmt.Sprintf("TestSeedsThat.*/%d$", seed)
	}
	cryptotest.SetGlobalRandom(t, seed) // ids of runs
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, dir, rules)
		tr = &w.trace
		w.live()
		if t.Failed() {
			t.Errorf("to run this seed again: go test ./internal/simulator -run '%s' -v -seed %d", again, seed)
		}
		if t.Failed() && testing.Verbose() {
			t.Log("what happened:\n" + tr.String())
		}
	})
	return tr
}
