package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
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
			w.aws.Clock.Advance(step)
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
		w.aws.Clock.Advance(time.Minute)
		if ticks%90 == 0 && rotation.Read(v, w.scene.entry.driver).Need == rotation.NeedRun {
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

// verify looks at everything that a walk has left.
func (w *walk) verify(ctx context.Context, res *Result) error {
	w.consumers.look(ctx, "at the end")
	before, err := w.left(ctx)
	if err != nil {
		return err
	}
	w.repeat(ctx)
	after, err := w.left(ctx)
	if err != nil {
		return err
	}
	if res.End != "open" && !reflect.DeepEqual(before, after) {
		w.broken("repeating isn't without effect: %+v, then %+v", before, after)
	}
	w.consumers.look(ctx, "after repeating")
	w.verifyLogins(after.Roles, res.End)
	if err := w.verifyTrail(ctx); err != nil {
		return err
	}
	return w.verifyLeaks(ctx)
}

// remains is what lasts.
type remains struct {
	Labels map[string][]rotation.Label
	Roles  []role
}

func (w *walk) left(ctx context.Context) (remains, error) {
	v, err := w.versions(ctx)
	if err != nil {
		return remains{}, err
	}
	for _, labels := range v {
		slices.Sort(labels)
	}
	roles, err := w.roles(ctx, w.name)
	return remains{w.shown(v), roles}, err
}

// repeat calls everything again that failed, and the watchdog.
func (w *walk) repeat(ctx context.Context) {
	w.functions.mu.Lock()
	failed := slices.Clone(w.functions.failed)
	w.functions.mu.Unlock()
	for i, call := range failed {
		if i < 2 && call.inv.event != nil {
			_, _ = w.functions.Invoke(ctx, functionPrefix+call.inv.function, call.inv.event) // seen in what is left
		}
	}
	for range 2 {
		_, _ = w.functions.Invoke(ctx, functionPrefix+"watchdog", []byte(`{}`))
	}
	for !w.quiet(ctx) && ctx.Err() == nil {
		continue
	}
}

// verifyLogins finds orphans: logins that work and that no consumer uses.
func (w *walk) verifyLogins(roles []role, end string) {
	if end == "open" {
		return
	}
	current := w.consumers.credential().Username
	for _, r := range roles {
		kept := r.Name == w.name || r.Name == w.name+"owner" || r.Name == w.name+"_clone"
		switch {
		case r.Name == current && !r.Login:
			w.broken("the current login can't log in")
		case r.Name == current:
		case r.Login || r.Password:
			w.broken("login %s is alive, but the current one is %s", r.Name, current)
		case !kept:
			w.broken("role %s is left over", r.Name)
		}
	}
}

func (c *consumers) credential() credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[c.current]
}

// verifyTrail checks the audit chain, and that it shows what failed after its
// intent was recorded.
func (w *walk) verifyTrail(ctx context.Context) error {
	trail := audit.Dir{Root: w.trail}
	if _, err := audit.Verify(ctx, trail, w.arn); err != nil {
		w.broken("the audit trail: %v", err)
	}
	records, err := audit.Records(ctx, trail, w.arn)
	if err != nil {
		return err
	}
	outcomes := map[string]bool{}
	for _, r := range records {
		outcomes[r.Outcome] = true
	}
	w.functions.mu.Lock()
	failed := slices.Clone(w.functions.failed)
	w.functions.mu.Unlock()
	for _, call := range failed {
		call.inv.mu.Lock()
		told := call.inv.intent && !call.inv.mute && !call.inv.dead.Load()
		call.inv.mu.Unlock()
		if told && !outcomes[call.name] {
			w.broken("%s failed with %s and the audit trail doesn't show it", call.inv.function, call.name)
		}
	}
	return nil
}

// verifyLeaks looks for every password in everything that was written.
func (w *walk) verifyLeaks(ctx context.Context) error {
	written := map[string][]byte{"the functions' log": w.log.Bytes()}
	log, err := w.serverLog()
	if err != nil {
		return err
	}
	written["the server's log"] = log
	if err := w.histories(ctx, written); err != nil {
		return err
	}
	trail := audit.Dir{Root: w.trail}
	keys, err := trail.List(ctx, "")
	if err != nil {
		return fmt.Errorf("listing the audit trail: %w", err)
	}
	for _, key := range keys {
		if written["the audit trail's "+key], err = trail.Get(ctx, key); err != nil {
			return fmt.Errorf("reading the audit trail: %w", err)
		}
	}
	values, err := w.passwords(ctx)
	if err != nil {
		return err
	}
	for where, text := range written {
		for login, password := range values {
			for _, form := range forms(password) {
				if bytes.Contains(text, []byte(form)) {
					w.broken("the password of %s is in %s", login, where)
				}
			}
		}
	}
	return nil
}

// passwords are all that there ever were in this walk.
func (w *walk) passwords(ctx context.Context) (map[string]string, error) {
	all := map[string]string{w.admin.User: w.admin.Password}
	w.consumers.mu.Lock()
	defer w.consumers.mu.Unlock()
	for _, c := range w.consumers.known {
		all[c.Username] = c.Password
	}
	if _, known := w.consumers.known[w.token]; known {
		return all, nil
	}
	value, err := w.made(ctx)
	if err == nil && value.Password != "" {
		all[value.Username+" (never current)"] = value.Password
	}
	return all, err
}

// made is the new version's value; empty if it never got one.
func (w *walk) made(ctx context.Context) (credential, error) {
	var c credential
	value, err := (&awssm.Store{API: w.plain, Region: awsproto.Region}).Value(ctx, w.arn, w.token)
	if fault.Is(err, fault.InvalidStage) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(value.Reveal()), &c); err != nil {
		return c, errors.New("the new version isn't the JSON of a credential")
	}
	return c, nil
}

// forms are the ways in which a password may be written: as it is, in JSON with
// HTML's escapes, in JSON in JSON, and in a URL.
func forms(password string) []string {
	once, _ := json.Marshal(password)                       // a string always encodes
	twice, _ := json.Marshal(string(bytes.Trim(once, `"`))) // as that does
	return slices.Compact([]string{
		password, string(bytes.Trim(once, `"`)), string(bytes.Trim(twice, `"`)), url.QueryEscape(password), url.PathEscape(password),
	})
}

func (w *walk) serverLog() ([]byte, error) {
	f, err := os.Open(w.cluster.Primary.LogFile)
	if err != nil {
		return nil, fmt.Errorf("opening the server's log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text := make([]byte, max(0, w.logSize()-w.logFrom))
	if _, err := f.ReadAt(text, w.logFrom); err != nil {
		return nil, fmt.Errorf("reading the server's log: %w", err)
	}
	if !bytes.Contains(text, []byte("LOG:  ")) {
		return nil, errors.New("the server's log is empty: looking into it would prove nothing")
	}
	return text, nil
}

// histories are what Step Functions shows to everybody for 90 days.
func (w *walk) histories(ctx context.Context, written map[string][]byte) error {
	all, err := w.executions(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		var history json.RawMessage
		if err := w.states(ctx, "GetExecutionHistory", map[string]any{"executionArn": e.ARN, "maxResults": 1000}, &history); err != nil {
			return err
		}
		written["the history of "+e.Name] = history
	}
	return nil
}
