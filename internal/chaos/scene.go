package chaos

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	smlocal "github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/rotation"
)

// entry is who begins, and how.
type entry struct {
	name   string
	driver rotation.Driver
	begin  func(*walk, context.Context) error
	// back is the function at whose first call somebody asks for a rollback.
	back string
	// stolen says that the first credential has to die whoever uses it: what was
	// read before counts no more, once there is another one.
	stolen bool
	// cut says that it dies before there is another one.
	cut bool
	// foreign says that AWS's sample functions have rotated the secret.
	foreign bool
	// polls, if set, is after how many of them a run hands over to the next.
	polls int
	modes []string // all if empty
}

// entries are the ways into a rotation.
var entries = []entry{
	{name: "RotateSecret", driver: rotation.DriverSecretsManager, begin: (*walk).rotateSecret},
	{name: "machine", driver: rotation.DriverMachine, begin: (*walk).startHead},
	{name: "rollback", driver: rotation.DriverSecretsManager, begin: (*walk).rotateSecret, back: "drainCheck"},
	{name: "emergency", driver: rotation.DriverSecretsManager, begin: (*walk).callEmergency, stolen: true},
	{name: "emergency --cut", driver: rotation.DriverSecretsManager, begin: (*walk).callEmergency, stolen: true, cut: true},
	{name: "hand-over", driver: rotation.DriverMachine, begin: (*walk).startHead, polls: 2, modes: []string{"fresh"}},
	{name: "adopt", driver: rotation.DriverSecretsManager, begin: (*walk).retirePrevious, foreign: true, modes: []string{"fresh", "pair"}},
}

// mode is what the policy says about logins.
type mode struct {
	name string
	set  func(values map[string]string, login string)
}

var modes = []mode{
	{"fresh", func(map[string]string, string) {}},
	{"pair", func(v map[string]string, _ string) { v["Mode"] = "pair" }},
	{"adoption", func(v map[string]string, login string) { v["Owner"] = login + "owner" }},
}

// scene is an entry in a mode.
type scene struct {
	w         *walk
	entry     entry
	mode      mode
	behaviour smlocal.Behaviour
	away      time.Duration // from the beginning on the instance is down
}

func (s scene) String() string { return s.entry.name + ", " + s.mode.name }

// scenes lists every entry in every mode.
func scenes() []scene {
	var all []scene
	for _, e := range entries {
		for _, m := range modes {
			if len(e.modes) > 0 && !slices.Contains(e.modes, m.name) {
				continue
			}
			all = append(all, scene{entry: e, mode: m, behaviour: smlocal.Behaviour{NoQuotas: true}})
		}
	}
	return all
}

// before is called when a function is about to run.
func (s scene) before(ctx context.Context, inv *invocation) {
	if s.entry.back == "" || inv.function != s.entry.back || !s.w.plan.opened() {
		return
	}
	s.w.turned.Do(func() { s.w.askBack(outside(ctx)) })
}

// begin starts the rotation; the operator's tool is called until it answers.
func (w *walk) begin(ctx context.Context) {
	if err := w.scene.entry.begin(w, ctx); err != nil {
		w.broken("the rotation can't be started: %v", err)
	}
}

// rotateSecret is what the schedule, or a person with the AWS CLI, does.
func (w *walk) rotateSecret(ctx context.Context) error {
	_, err := w.plain.RotateSecret(ctx, &secretsmanager.RotateSecretInput{SecretId: &w.arn, ClientRequestToken: &w.token})
	return err
}

// callEmergency is what keyturn emergency does; each call has a token of its own.
func (w *walk) callEmergency(ctx context.Context) error {
	w.token = uuid.NewString()
	input, err := json.Marshal(map[string]any{"purpose": "act", "secret": w.arn, "token": w.token, "cut": w.scene.entry.cut})
	if err != nil {
		return err
	}
	_, err = w.aws.StepFunctions.StartExecution(ctx, w.emergency, "emergency-"+w.token, input)
	return err
}

func (w *walk) startHead(ctx context.Context) error {
	return w.insist(ctx, func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.StartHead(ctx, w.arn, w.token)
		return err
	})
}

// askBack is keyturn rollback. Too late is an answer, too.
func (w *walk) askBack(ctx context.Context) {
	w.mu.Lock()
	w.askedBack = true
	w.mu.Unlock()
	err := w.insist(ctx, func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.RequestRollback(ctx, w.arn)
		return err
	})
	if err != nil && !fault.Is(err, fault.TooLate) {
		w.broken("a rollback can't be asked for: %v", err)
	}
}

// insist calls the operator's tool again when it failed for a while.
func (w *walk) insist(ctx context.Context, do func(context.Context, *rotation.Rotator) error) error {
	var err error
	for range 5 {
		if err = w.functions.operate(ctx, do); err == nil || fault.Is(err, fault.TooLate) {
			return err
		}
	}
	return err
}

// crash ends an invocation's process: its connections break, and nothing of it
// happens any more.
func (w *walk) crash(inv *invocation) error {
	if inv == nil {
		return errCrashed
	}
	inv.dead.Store(true)
	inv.cancel()
	w.proxy.cut(func(l *link) bool { return l.inv == inv })
	return errCrashed
}

// overtake stops the execution that an invocation belongs to while it is about
// to make a call, and lets it go on. If somebody has asked for a rollback, the
// back run gets a moment to act first.
func (w *walk) overtake(ctx context.Context, inv *invocation, kind Kind) {
	ctx, cancel := context.WithTimeout(outside(ctx), 10*time.Second)
	defer cancel()
	switch kind {
	case TurnedBack:
		w.turned.Do(func() { w.askBack(ctx) })
		_ = pause(ctx, 40*time.Millisecond) // the context outlives it
		return
	case Cancelled:
		w.cancelRotation(ctx)
		return
	default:
	}
	w.stopped.Store(true)
	all, err := w.executions(ctx)
	if err != nil {
		w.broken("executions can't be listed: %v", err)
		return
	}
	for _, e := range all {
		var out json.RawMessage
		if e.Status != "RUNNING" {
			continue
		}
		if err := w.states(ctx, "StopExecution", map[string]any{"executionArn": e.ARN}, &out); err != nil {
			w.broken("an execution can't be stopped: %v", err)
		}
	}
	if inv != nil && inv.function == "rotateSecret" {
		return // Secrets Manager waits for its answer
	}
	_, _ = w.functions.Invoke(ctx, functionPrefix+"watchdog", []byte(`{}`)) // its answer is seen in the labels
}
