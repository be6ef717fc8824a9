package rotation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// execution is where one run of rotation.asl.json stands.
type execution struct {
	at     rotation.Step // "abort" is StepRollback of a head
	cursor string
	cause  string
	tries  int
	until  time.Time
}

// house is a world in which everything that drives a rotation is at work: the
// state machine's runs, Secrets Manager's own rotation and the watchdog.
type house struct {
	*world
	keepPending bool
	rollbackAt  string // ask for a rollback once the target has done this step; "" never
	asked       bool
	before      func() // called before each step of anybody
	excused     bool   // a person has made a refused login current
	executions  map[string]*execution
}

func newHouse(w *world) *house {
	return &house{world: w, executions: map[string]*execution{}}
}

// next is the order of steps in rotation.asl.json.
var next = map[rotation.Step]rotation.Step{
	rotation.StepCreate: rotation.StepSet, rotation.StepSet: rotation.StepTest, rotation.StepTest: rotation.StepFinish,
	rotation.StepRollback: rotation.StepAdopt, rotation.StepAdopt: rotation.StepDrain, rotation.StepDrain: rotation.StepDisable,
	rotation.StepDisable: rotation.StepRevoke,
}

// check is rule 1, which a person may break and Keyturn may not.
func (h *house) check() {
	h.t.Helper()
	if h.excused && h.target.logins[h.login(h.store.Labels(arn).Holder(rotation.Current))] != "accepted" {
		return
	}
	h.excused = false
	h.world.check()
}

func (h *house) call(step rotation.Step, req rotation.Request) (rotation.Result, error) {
	h.t.Helper()
	steps := map[rotation.Step]func(context.Context, rotation.Request) (rotation.Result, error){
		rotation.StepCreate: h.Create, rotation.StepSet: h.Set, rotation.StepTest: h.Test, rotation.StepFinish: h.Finish,
		rotation.StepAdopt: h.Adopt, rotation.StepDrain: h.Drain, rotation.StepDisable: h.Disable, rotation.StepRevoke: h.Revoke,
		rotation.StepRollback: h.Rollback,
	}
	if h.before != nil {
		h.before()
	}
	res, err := steps[step](h.t.Context(), req)
	h.check()
	h.operator()
	return res, err
}

// operator asks for the rollback until it is taken.
func (h *house) operator() {
	if h.rollbackAt == "" || h.asked || !slices.Contains(h.target.steps, h.rollbackAt) {
		return
	}
	_, err := h.RequestRollback(h.t.Context(), arn)
	h.asked = err == nil
	h.check()
}

// step lets one run do one step, as the state machine would.
func (h *house) step(name string, in rotation.Input) {
	x := h.execution(name, in)
	if h.now.Before(x.until) {
		return
	}
	res, err := h.call(x.at, x.request(in))
	h.answered(name, in, x, res, err)
}

// execution finds where a run stands, or puts it at its beginning.
func (h *house) execution(name string, in rotation.Input) *execution {
	if h.executions[name] == nil {
		first := map[rotation.Direction]rotation.Step{
			rotation.Head: rotation.StepCreate, rotation.Forward: rotation.StepAdopt, rotation.Back: rotation.StepRollback,
		}
		h.executions[name] = &execution{at: first[in.Direction], cursor: in.Cursor}
	}
	return h.executions[name]
}

func (x *execution) request(in rotation.Input) rotation.Request {
	return rotation.Request{
		Secret: in.Secret, Token: in.Token, Direction: in.Direction, Generation: in.Generation, Cursor: x.cursor,
	}
}

// answered lets a run go on by what its step has answered.
func (h *house) answered(name string, in rotation.Input, x *execution, res rotation.Result, err error) {
	if err != nil {
		h.caught(name, in, x, err)
		return
	}
	x.tries, x.cursor, x.until = 0, res.Cursor, h.now.Add(res.After)
	abort := x.at == rotation.StepRollback && in.Direction == rotation.Head
	switch res.Outcome {
	case rotation.Wait, rotation.Unknown:
	case rotation.Reopened:
		x.at = map[rotation.Step]rotation.Step{rotation.StepDisable: rotation.StepDrain, rotation.StepRevoke: rotation.StepAdopt}[x.at]
	case rotation.Promoted:
		h.runs.end(name, rotation.RunSucceeded, h.now, "")
	default:
		last := x.at == rotation.StepFinish || x.at == rotation.StepRevoke || (x.at == rotation.StepCreate && in.Driver == rotation.DriverSecretsManager)
		switch {
		case abort:
			h.runs.end(name, rotation.RunFailed, h.now, x.cause)
		case last:
			h.runs.end(name, rotation.RunSucceeded, h.now, "")
		default:
			x.at = next[x.at]
		}
	}
}

// caught is what Retry and Catch do with an error.
func (h *house) caught(name string, in rotation.Input, x *execution, err error) {
	const attempts = 6
	if fault.NameOf(err).Class() == fault.Retry && x.tries < attempts {
		x.tries++
		return
	}
	x.tries = 0
	cause, _ := json.Marshal(map[string]string{"Error": string(fault.NameOf(err)), "Cause": err.Error()})
	abort := x.at == rotation.StepRollback && in.Direction == rotation.Head
	switch {
	case fault.Is(err, fault.Superseded) && !abort, x.at == rotation.StepRollback && fault.Is(err, fault.TooLate) && !abort:
		h.runs.end(name, rotation.RunSucceeded, h.now, "")
	case in.Direction == rotation.Head && !abort:
		x.at, x.cause = rotation.StepRollback, string(cause)
	default:
		h.runs.end(name, rotation.RunFailed, h.now, string(cause))
	}
}

// secretsManager tries its own rotation from the beginning while a version
// other than the current one is AWSPENDING, and may clean up after it.
func (h *house) secretsManager() {
	v := h.store.Labels(arn)
	p := v.Holder(rotation.Pending)
	if h.store.Driver != rotation.DriverSecretsManager || p == "" {
		return
	}
	if p == v.Holder(rotation.Current) {
		for !h.keepPending && h.store.Detach(h.t.Context(), arn, rotation.Pending, p) != nil {
		}
		return
	}
	for _, step := range []rotation.Step{rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish} {
		res, err := h.call(step, rotation.Request{Secret: arn, Token: p, Direction: rotation.Head, ByStore: true})
		if err != nil || res.Outcome != rotation.Done {
			return
		}
	}
}

// tick is half a minute of everybody's work.
func (h *house) tick() (busy bool) {
	h.secretsManager()
	for _, name := range slices.Sorted(maps.Keys(h.runs.in)) {
		in := h.runs.in[name]
		if h.runs.runs[name].Status == rotation.RunRunning {
			busy = true
			h.step(name, in)
		}
	}
	_, err := h.EnsureRun(h.t.Context(), arn, rotation.EnsureOptions{Retry: true})
	h.check()
	h.operator()
	h.now = h.now.Add(30 * time.Second)
	return busy || err != nil
}

// settle drives on until nobody has anything left to do.
func (h *house) settle() {
	h.t.Helper()
	const most = 300
	for range most {
		busy := h.tick()
		need := rotation.Read(h.store.Labels(arn), h.store.Driver).Need
		if !busy && need == rotation.NeedNothing && (h.rollbackAt == "" || h.asked) {
			return
		}
	}
	h.t.Fatalf("never settles: labels %s, logins %v, runs %v", h.labels(), h.target.logins, h.runs.runs)
}

// settled checks the only end there may be: one login, the current version's,
// and no other label of ours but the mark of a rollback.
func (h *house) settled(login string) {
	h.t.Helper()
	h.check()
	h.wantLogins(login + " accepted")
	for id, labels := range h.store.Labels(arn) {
		for _, l := range labels {
			ours := strings.HasPrefix(string(l), "KEYTURN_")
			stays := l == rotation.Rejected || (l == rotation.Live(id) && h.store.Labels(arn).Has(id, rotation.Current))
			if ours && !stays {
				h.t.Fatalf("%s is left on version %s: %s", l, id, h.labels())
			}
		}
	}
}

type interruption struct {
	name        string
	driver      rotation.Driver
	keepPending bool
	rollbackAt  string
	end         string
}

// run drives one rotation from its start to its end; fail interferes.
func (i interruption) run(t *testing.T, fail func(*rotationtest.Store)) (calls int) {
	t.Helper()
	w := newWorld(t, i.driver)
	h := newHouse(w)
	h.keepPending, h.rollbackAt = i.keepPending, i.rollbackAt
	fail(w.store)
	_, err := h.StartHead(t.Context(), arn, v2)
	w.must(err)
	h.settle()
	if i.end == "" { // an outage may end the head; then the old login is alone
		i.end = w.target.login(t.Context(), w.store.Labels(arn).Holder(rotation.Current))
	}
	h.settled(i.end)
	return len(w.store.Calls())
}

// interruptions are the ways that a rotation goes.
func interruptions() (all []interruption) {
	for _, kind := range []interruption{
		{driver: rotation.DriverMachine},
		{driver: rotation.DriverSecretsManager},
		{driver: rotation.DriverSecretsManager, keepPending: true},
	} {
		for _, end := range []interruption{
			{name: "forward", end: "login-2"},
			{name: "turned back before promotion", rollbackAt: "set", end: "login-1"},
			{name: "turned back after promotion", rollbackAt: "adopt", end: "login-1"},
			{name: "turned back after disable", rollbackAt: "disable", end: "login-1"},
		} {
			kind.name = fmt.Sprintf("%s, %s, AWSPENDING stays %v", end.name, kind.driver, kind.keepPending)
			kind.rollbackAt, kind.end = end.rollbackAt, end.end
			all = append(all, kind)
		}
	}
	return all
}

// from fails some calls beginning with the n-th.
func from(n, some int) func(rotationtest.Call) error {
	seen := 0
	return func(rotationtest.Call) error {
		if seen++; seen > n && seen <= n+some {
			return fault.New(fault.Unavailable, "interrupted")
		}
		return nil
	}
}

// Whichever call of the store fails, before or after it took effect: what
// consumers read works all the time, and the rotation ends as if nothing had been.
func TestEveryCallMayFailOnce(t *testing.T) {
	t.Parallel()
	for _, i := range interruptions() {
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			calls := i.run(t, func(*rotationtest.Store) {})
			for n := range calls {
				t.Run(fmt.Sprintf("call %d isn't made", n), func(t *testing.T) {
					i.run(t, func(s *rotationtest.Store) { s.Fail = from(n, 1) })
				})
				t.Run(fmt.Sprintf("the answer of call %d is lost", n), func(t *testing.T) {
					i.run(t, func(s *rotationtest.Store) { s.FailAfter = from(n, 1) })
				})
			}
		})
	}
}

// An outage outlasts every retry: runs end in RotationStuck and the watchdog
// takes them up. A head may be aborted by it; everything else ends as it would.
func TestAnOutageMayBeginAtEveryCall(t *testing.T) {
	t.Parallel()
	const calls = 40 // of everybody together
	for _, i := range interruptions() {
		if i.rollbackAt == "adopt" || i.rollbackAt == "disable" {
			continue // an aborted head never gets there
		}
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			clean := i.run(t, func(*rotationtest.Store) {})
			i.end = ""
			for n := range clean {
				t.Run(fmt.Sprintf("call %d", n), func(t *testing.T) {
					i.run(t, func(s *rotationtest.Store) { s.Fail = from(n, calls) })
				})
				t.Run(fmt.Sprintf("answer %d", n), func(t *testing.T) {
					i.run(t, func(s *rotationtest.Store) { s.FailAfter = from(n, calls) })
				})
			}
		})
	}
}
