package bench_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
)

// stepNames are the steps of a rotation, in order, and what runs them.
var stepNames = []string{"create", "set", "test", "finish", "adopt", "drain", "disable", "revoke"}

var functionOf = map[string]string{
	"create": "createSecret", "set": "setSecret", "test": "testSecret", "finish": "finishSecret",
	"adopt": "adoptSecret", "drain": "drainCheck", "disable": "disableSecret", "revoke": "revokeSecret",
}

// settle lets what ended before come to rest: a function answers a little before
// it asks for more work.
const settle = 10 * time.Millisecond

// looks is how often drain is called: the policy asks for two quiet ones.
const looks = 2

// duel is one application whose login the functions rotate, and its twin whose
// login the bare calls rotate.
type duel struct {
	*rig
	fn     *app
	bare   *bareProcess
	third  *app   // which Secrets Manager rotates
	turn   int    // rotations so far
	token  string // of the functions' rotation
	cursor string
	polls  int
}

func newDuel(r *rig) *duel {
	fn, twin := r.newApp("shop", "machine"), r.newApp("twin", "machine")
	third := r.newApp("third", "secretsmanager")
	r.deploy(fn, twin, third)
	r.register(baseline)
	return &duel{rig: r, fn: fn, bare: startBare(r, twin), third: third}
}

// times are the times of one rotation, by step: of the functions, of the bare
// calls, and of an invocation that does nothing.
type times struct {
	fn, bare map[string]time.Duration
	empty    time.Duration
}

// rotate carries out one rotation of both, step by step, in turns; who begins
// changes with each rotation. Around each part of a step it calls watch, if
// there is one.
func (d *duel) rotate(watch func(step, who string, part func())) times {
	d.tb.Helper()
	if watch == nil {
		watch = func(_, _ string, part func()) { part() }
	}
	t := times{fn: map[string]time.Duration{}, bare: map[string]time.Duration{}}
	d.token, d.bare.token, d.cursor, d.polls = uuid.NewString(), uuid.NewString(), "", 0
	d.turn++
	for _, step := range stepNames {
		calls := 1
		if step == "adopt" { // the step that is nearest to it
			time.Sleep(settle)
			t.empty = timed(d.empty)
		}
		if step == "drain" {
			calls = looks
			// The instances live on the new version: the twin's too.
			d.reconnect(d.fn)
			d.reconnect(d.bare.app)
		}
		for call := range calls {
			parts := []func(){
				func() { watch(step, "function", func() { t.fn[step] += d.call(step, call == calls-1) }) },
				func() { watch(step, "bare", func() { t.bare[step] += d.bare.do(step) }) },
			}
			for _, part := range []int{d.turn % 2, 1 - d.turn%2} {
				time.Sleep(settle)
				parts[part]()
			}
			if call < calls-1 {
				time.Sleep(1100 * time.Millisecond) // the shortest pause between two looks
			}
		}
	}
	return t
}

// empty is an invocation that does nothing.
func (d *duel) empty() {
	d.tb.Helper()
	if _, err := d.aws.Lambda.Invoke(d.ctx, baseline, nil); err != nil {
		d.tb.Fatal(err)
	}
}

func timed(part func()) time.Duration {
	begun := time.Now()
	part()
	return time.Since(begun)
}

// call invokes a step's function as the state machine does.
func (d *duel) call(step string, last bool) time.Duration {
	d.tb.Helper()
	direction := "head"
	if slices.Index(stepNames, step) >= slices.Index(stepNames, "adopt") {
		direction = "forward"
	}
	payload, err := json.Marshal(map[string]any{
		"secret": d.fn.ARN, "token": d.token, "direction": direction, "generation": 1, "cursor": d.cursor, "polls": d.polls,
	})
	if err != nil {
		d.tb.Fatal(err)
	}
	begun := time.Now()
	out, err := d.aws.Lambda.Invoke(d.ctx, functionOf[step], payload)
	took := time.Since(begun)
	if err != nil {
		d.tb.Fatalf("%s: %v", step, err)
	}
	var answer struct {
		Outcome string
		Cursor  string
		Missing []string
	}
	if err := json.Unmarshal(out.Payload, &answer); err != nil || out.FunctionError != "" {
		d.tb.Fatalf("%s answered %s", step, out.Payload)
	}
	want := "done"
	if !last {
		want = "wait"
	}
	if answer.Outcome != want {
		d.tb.Fatalf("%s is %s, not %s: %q", step, answer.Outcome, want, answer.Missing)
	}
	d.cursor = answer.Cursor
	return took
}
