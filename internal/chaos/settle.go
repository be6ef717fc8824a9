package chaos

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// mostTicks is how often the watchdog looks before somebody asks why it doesn't
// end: ten hours of the walk's clock. A rotation that Secrets Manager gave up is
// asked for again once an hour.
const mostTicks = 600

// mostCalls is how many calls of functions a rotation may take; without faults
// it is about 16.
const mostCalls = 300

// settle lets time pass until the labels say that the rotation is over. It
// moves the clock only while no function works, and plays the watchdog's
// schedule, and now and then the operator who resumes what is stuck.
func (w *walk) settle(ctx context.Context) Result {
	var res Result
	step, ticks, started := time.Second, 0, 0
	for ctx.Err() == nil {
		if !w.quiet(ctx) {
			continue
		}
		if n := w.functions.started(); n != started {
			started, step = n, time.Second
		}
		if started > mostCalls {
			return w.unended(ctx, res)
		}
		running, err := w.running(ctx)
		if err != nil {
			break
		}
		if running {
			w.advance(step)
			step = min(2*step, time.Minute)
			continue
		}
		v, err := w.versions(ctx)
		if err != nil {
			break
		}
		if w.over(v) && w.scene.entry.stolen && v.Has(w.first, rotation.Current) && res.Stuck < 5 {
			res.Stuck++ // whoever called the emergency sees that it failed, and calls again
			w.switchOn(ctx)
			w.begin(ctx)
			continue
		}
		if w.over(v) {
			res.End = w.end(v)
			return res
		}
		if ticks++; ticks > mostTicks {
			return w.unended(ctx, res)
		}
		w.advance(time.Minute)
		need := rotation.Read(v, w.scene.entry.driver).Need
		if ticks%90 == 0 && need == rotation.NeedReplace && res.Stuck < 5 {
			res.Stuck++ // the watchdog has told that it needs a person
			if !w.asFound(ctx) {
				w.begin(ctx)
			}
			continue
		}
		if ticks%90 == 0 && need == rotation.NeedRun {
			res.Stuck++
			_ = w.insist(ctx, func(ctx context.Context, r *rotation.Rotator) error { // seen in the labels
				_, err := r.EnsureRun(ctx, w.arn, rotation.EnsureOptions{Resume: true})
				return err
			})
			continue
		}
		_, _ = w.functions.Invoke(ctx, functionPrefix+"watchdog", []byte(`{}`)) // seen in the labels
	}
	w.broken("the walk took too long")
	return w.unended(ctx, res)
}

// advance lets time pass for everybody, the server too.
func (w *walk) advance(d time.Duration) {
	w.aws.Clock.Advance(d)
	w.proxy.expire(w.aws.Clock.Now())
}

// unended says where a rotation is that doesn't end.
func (w *walk) unended(ctx context.Context, res Result) Result {
	ctx, cancel := context.WithTimeout(outside(ctx), 10*time.Second)
	defer cancel()
	res.End = "open"
	v, err := w.versions(ctx)
	if err != nil {
		w.broken("the rotation doesn't end, and its labels can't be read: %v", err)
		return res
	}
	records, err := audit.Records(ctx, audit.Dir{Root: w.trail}, w.arn)
	if err != nil || len(records) == 0 {
		w.broken("the rotation doesn't end: %v, %s; nothing is recorded", w.shown(v), w.whyStuck(ctx))
		return res
	}
	last := records[len(records)-1]
	w.broken("the rotation doesn't end: %v, %s; last %s of %s: %s %v", w.shown(v), w.whyStuck(ctx), last.Phase, last.Step, last.Outcome, last.Missing)
	return res
}

// quiet reports, after a moment, that no function works.
func (w *walk) quiet(ctx context.Context) bool {
	for range 2 {
		if !w.functions.idle() {
			_ = pause(ctx, 200*time.Microsecond) // the caller looks at the context
			return false
		}
		_ = pause(ctx, 300*time.Microsecond)
	}
	return w.functions.idle()
}

func (f *functions) started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for name, c := range f.counts {
		if name != "watchdog" {
			n += c
		}
	}
	return n
}

func (w *walk) running(ctx context.Context) (bool, error) {
	all, err := w.executions(ctx)
	return slices.ContainsFunc(all, func(e execution) bool { return e.Status == "RUNNING" }), err
}

// execution is one of Step Functions' answers.
type execution struct {
	ARN    string `json:"executionArn"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Cause  string `json:"cause"`
}

// executions lists all of them, past every fault.
func (w *walk) executions(ctx context.Context) ([]execution, error) {
	var all []execution
	for _, machine := range []string{w.machine, w.emergency} {
		var out struct{ Executions []execution }
		if err := w.states(ctx, "ListExecutions", map[string]any{"stateMachineArn": machine, "maxResults": 1000}, &out); err != nil {
			return nil, err
		}
		all = append(all, out.Executions...)
	}
	return all, nil
}

// states calls Step Functions within this process.
func (w *walk) states(ctx context.Context, action string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := w.aws.StepFunctions.Call(ctx, action, body)
	if err != nil {
		return err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// over reports that one credential is current and alone.
func (w *walk) over(v rotation.Versions) bool {
	return rotation.Read(v, w.scene.entry.driver).Need == rotation.NeedNothing && v.Holder(rotation.Retiring) == "" &&
		len(v.Displaced()) == 0
}

func (w *walk) end(v rotation.Versions) string {
	switch {
	case w.scene.entry.stolen && v.Has(w.first, rotation.Current):
		w.broken("the stolen credential is still current")
		return "open"
	case w.scene.entry.stolen && v.Holder(rotation.Current) != "":
		return "replaced"
	case w.previous != "" && v.Has(w.first, rotation.Current):
		return "adopted"
	case w.previous != "" && v.Has(w.previous, rotation.Current):
		return "rolled back"
	case v.Has(w.token, rotation.Current):
		return "stable"
	case v.Has(w.first, rotation.Current) && v.Has(w.token, rotation.Rejected):
		return "rolled back"
	case v.Has(w.first, rotation.Current):
		return "aborted"
	}
	w.broken("neither the old nor the new version is current: %v", w.shown(v))
	return "open"
}

// shown writes labels by what their versions are.
func (w *walk) shown(v rotation.Versions) map[string][]rotation.Label {
	names := map[string]string{w.first: "old", w.token: "new", w.previous: "previous"}
	out := map[string][]rotation.Label{}
	for id, labels := range v {
		if names[id] != "" {
			id = names[id]
		}
		out[id] = labels
	}
	return out
}

// whyStuck tells how the runs ended.
func (w *walk) whyStuck(ctx context.Context) string {
	all, err := w.executions(ctx)
	if err != nil {
		return err.Error()
	}
	var ends []string
	for _, e := range all {
		end := e.Name + " " + e.Status
		if err := w.states(ctx, "DescribeExecution", map[string]any{"executionArn": e.ARN}, &e); err == nil {
			end += " " + e.Cause
		}
		ends = append(ends, end)
	}
	return strings.Join(ends, "; ")
}
