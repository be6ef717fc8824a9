package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/rotation"
)

var (
	errCrashed = errors.New("the process is gone")
	errReset   = errors.New("connection reset by peer")
)

// invocation is one run of a function, or of the operator's tool.
type invocation struct {
	function string
	nth      int
	event    []byte
	calls    atomic.Int32
	dead     atomic.Bool // crashed: nothing that it does happens any more
	late     atomic.Bool // it is dead because its time was up
	cancel   context.CancelFunc
	skew     time.Duration
	began    time.Time // by the walk's clock

	mu     sync.Mutex
	intent bool            // it has recorded an intent
	mute   bool            // its audit trail was made to fail
	given  context.Context // for a record, and over
}

type invocationKey struct{}

// of returns the invocation that a call belongs to; nil for the stage's own.
func of(ctx context.Context) *invocation {
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	return inv
}

// outside returns a context that belongs to no invocation and outlives them all.
func outside(ctx context.Context) context.Context {
	return context.WithoutCancel(context.WithValue(ctx, invocationKey{}, (*invocation)(nil)))
}

// next is the point of the invocation's next call.
func (i *invocation) next(l layer, name string) Point {
	return Point{i.function, i.nth, int(i.calls.Add(1)), l, name}
}

// functions runs the handlers in this process, as the local Lambda runs the
// binaries: one process an invocation, which remembers nothing.
type functions struct {
	w *walk

	mu      sync.Mutex
	counts  map[string]int
	running map[*invocation]bool
	latest  *invocation // that may speak to the database
	failed  []failedCall
}

// failedCall is an invocation that didn't end well, as its caller was told.
type failedCall struct {
	inv  *invocation
	name string // of the error
}

var _ host.Registry = (*functions)(nil)

const functionPrefix = "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:keyturn-"

// handlers are what functions/ deploys, by folder.
var handlers = map[string]func(*rotation.Rotator) lambdaentry.Handler{
	"rotateSecret":  lambdaentry.FourSteps,
	"createSecret":  func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Create) },
	"setSecret":     func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Set) },
	"testSecret":    func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Test) },
	"finishSecret":  func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Finish) },
	"adoptSecret":   func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Adopt) },
	"drainCheck":    func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Drain) },
	"disableSecret": func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Disable) },
	"revokeSecret":  func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Revoke) },
	"rollback":      func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Rollback) },
	"abortSecret":   func(r *rotation.Rotator) lambdaentry.Handler { return lambdaentry.Step(r.Rollback) },
	"watchdog":      lambdaentry.Watch,
	"emergency":     lambdaentry.Emergency,
	"cutSecret":     lambdaentry.Cut,
}

// Has implements host.Registry.
func (f *functions) Has(function string) bool {
	return handlers[strings.TrimPrefix(function, functionPrefix)] != nil
}

// Invoke implements host.Invoker.
func (f *functions) Invoke(ctx context.Context, function string, payload []byte) (host.Invocation, error) {
	name := strings.TrimPrefix(function, functionPrefix)
	build := handlers[name]
	if build == nil {
		return host.Invocation{}, &awsproto.Error{Code: "ResourceNotFoundException", Status: 404, Message: "no function " + name}
	}
	inv := f.begin(name, payload)
	point := Point{name, inv.nth, 0, layerLambda, "Invoke"}
	kind := f.w.plan.at(point)
	switch kind {
	case Throttle:
		f.end(inv)
		return host.Invocation{}, &awsproto.Error{Code: "TooManyRequestsException", Status: 429, Message: "Rate Exceeded."}
	case ServerError:
		f.end(inv)
		return host.Invocation{}, &awsproto.Error{Code: "ServiceException", Status: 500, Message: "an internal error"}
	case CrashBefore:
		f.end(inv)
		return f.gone(inv), nil
	case ClockAhead:
		inv.skew = skew
	case ClockBehind:
		inv.skew = -skew
	}
	f.w.scene.before(ctx, inv)
	f.w.cutting(inv)
	out := f.run(ctx, inv, build)
	if kind == CrashAfter {
		inv.dead.Store(true) // it has told all it could
		return f.gone(inv), nil
	}
	return out, nil
}

// run is one process. It outlives its caller, as on AWS.
func (f *functions) run(ctx context.Context, inv *invocation, build func(*rotation.Rotator) lambdaentry.Handler) host.Invocation {
	done := make(chan host.Invocation, 1)
	f.w.work.Go(func() {
		own, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), invocationKey{}, inv), functionTimeout)
		defer cancel()
		inv.cancel = cancel
		f.enter(inv)
		defer f.end(inv)
		log := lambdaentry.Logger(f.w.log)
		r, err := f.w.rotator(inv.function, audit.Controller, inv)
		if err != nil {
			done <- host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Runtime.ExitError","errorMessage":"the function can't start"}`)}
			f.w.broken("%s can't start: %v", inv.function, err)
			return
		}
		payload, failed := lambdaentry.Answer(own, log, build(r), inv.event)
		if inv.dead.Load() {
			done <- f.gone(inv)
			return
		}
		out := host.Invocation{Payload: payload}
		if failed {
			out.FunctionError = "Unhandled"
			f.note(inv, errorType(payload))
		}
		done <- out
	})
	select {
	case out := <-done:
		return out
	case <-ctx.Done():
		return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Sandbox.Timedout","errorMessage":"nobody waits any more"}`)}
	}
}

func errorType(payload []byte) string {
	var document struct {
		Type string `json:"errorType"`
	}
	_ = json.Unmarshal(payload, &document) // an empty name shows it
	return document.Type
}

func (f *functions) gone(inv *invocation) host.Invocation {
	name, message := "Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: signal: killed"
	if inv.late.Load() {
		name, message = "Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 30.00 seconds"
	}
	f.note(inv, name)
	return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"` + name + `","errorMessage":"` + message + `"}`)}
}

func (f *functions) note(inv *invocation, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = append(f.failed, failedCall{inv, name})
}

func (f *functions) begin(name string, payload []byte) *invocation {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.w.plan.opened() {
		f.counts[name]++
	}
	inv := &invocation{function: name, nth: f.counts[name], event: payload, began: f.w.aws.Clock.Now()}
	f.running[inv] = true
	return inv
}

func (f *functions) enter(inv *invocation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[inv] = true
	if inv.function != "watchdog" {
		f.latest = inv
	}
}

func (f *functions) end(inv *invocation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, inv)
	if f.latest == inv {
		f.latest = nil
	}
}

// idle reports that no function works.
func (f *functions) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running) == 0
}

// alone reports that no other function works.
func (f *functions) alone(inv *invocation) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running) == 0 || len(f.running) == 1 && f.running[inv]
}

// speaking is who a new connection to the database belongs to.
func (f *functions) speaking() *invocation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest
}

// operate runs the operator's tool once.
func (f *functions) operate(ctx context.Context, do func(context.Context, *rotation.Rotator) error) error {
	inv := f.begin("operator", nil)
	defer f.end(inv)
	own, cancel := context.WithTimeout(context.WithValue(ctx, invocationKey{}, inv), functionTimeout)
	defer cancel()
	inv.cancel = cancel
	r, err := f.w.rotator("operator", audit.Human, inv)
	if err != nil {
		return err
	}
	return do(own, r)
}

// rotator is the function's parts as the deployment puts them together, on the
// walk's clock, with every call going through the plan.
func (w *walk) rotator(name string, actor audit.ActorType, inv *invocation) (*rotation.Rotator, error) {
	now := func() time.Time { return w.aws.Clock.Now().Add(inv.skew) }
	r, err := deployment.Assemble(w.config, deployment.Settings{
		Policy: w.policy, StateMachine: w.machine, AuditDir: w.trail,
	}, deployment.Actor{Name: name, Type: actor, Lines: w.log, Now: now}, lambdaentry.Logger(w.log))
	if err != nil {
		return nil, err
	}
	r.Journal.(*audit.Journal).Ledger = ledger{audit.Dir{Root: w.trail}, w, inv}
	return r, nil
}
