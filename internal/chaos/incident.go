package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
)

// foretell asks what an emergency with --cut would break, as keyturn emergency
// does before it asks its caller: the instance has to be among it.
func (w *walk) foretell(ctx context.Context) error {
	event, err := json.Marshal(map[string]any{
		"act": "foretell", "secret": w.arn, "token": uuid.NewString(), "cut": true, "cursor": "", "polls": 0,
	})
	if err != nil {
		return err
	}
	out, err := w.functions.Invoke(ctx, functionPrefix+"cutSecret", event)
	if err != nil || out.FunctionError != "" {
		return fmt.Errorf("foretelling what breaks: %w, %s", err, out.Payload)
	}
	var answer struct{ Missing []string }
	if err := json.Unmarshal(out.Payload, &answer); err != nil {
		return fmt.Errorf("reading what breaks: %w", err)
	}
	told := strings.Join(answer.Missing, "\n")
	if !strings.Contains(told, "uses it now: ") || !strings.Contains(told, instanceName+" follows within ") {
		w.broken("an emergency that breaks the instance doesn't foretell it: %q", answer.Missing)
	}
	return nil
}

// cutting notes that an emergency is about to cut the stolen login off.
func (w *walk) cutting(inv *invocation) {
	var event struct{ Act string }
	if inv.function == "cutSecret" && json.Unmarshal(inv.event, &event) == nil && event.Act == "cut" {
		w.cut.Store(true)
	}
}

// stolen is what holds in an emergency with --cut. The stolen login is refused
// from the cut on, and its sessions are over, before there is another one; but if
// somebody stops the emergency before its cut, the watchdog replaces the login
// without. Until then AWSCURRENT shows a credential that may be refused: then it
// reports true.
func (c *consumers) stolen(ctx context.Context, when string) bool {
	first := c.w.first
	if first == "" {
		return false
	}
	refused := c.login(ctx, c.known[first]) != nil
	switch {
	case c.current == first && refused && !c.w.cut.Load():
		c.w.broken("%s the login is refused, and nobody has cut it off", when)
	case c.current != first && !refused && !c.w.stopped.Load():
		c.w.broken("%s the stolen login works, although there is another one", when)
	case c.cut && !refused:
		c.w.broken("%s the stolen login, which was cut off, works again", when)
	case c.current != first && refused && c.version == first && c.conn != nil && c.conn.Ping(ctx) == nil:
		c.w.broken("%s a session of the stolen login goes on, although there is another login", when)
	}
	c.cut = c.cut || refused
	return c.current == first && refused
}

// rotatedByOthers leaves the secret as AWS's functions for alternating users do:
// the clone is current, and the login before it lives on under AWSPREVIOUS. The
// instance hasn't followed yet.
func (w *walk) rotatedByOthers(ctx context.Context, login credential) error {
	if err := w.consumers.follow(ctx); err != nil {
		return err
	}
	w.previous = w.consumers.current
	clone := login
	clone.Username, clone.Password, clone.Port = login.Username+"_clone", randomPassword(), w.proxy.port()
	if err := w.exec(ctx,
		"CREATE ROLE "+pgtest.Ident(clone.Username)+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(clone.Password)),
		"GRANT "+pgtest.Ident(login.Username)+" TO "+pgtest.Ident(clone.Username),
	); err != nil {
		return err
	}
	text, err := json.Marshal(clone)
	if err != nil {
		return err
	}
	if _, err := w.plain.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &w.arn, SecretString: aws.String(string(text)),
	}); err != nil {
		return err
	}
	w.aws.Clock.Advance(2 * w.scene.behaviour.ReadLag)
	w.consumers.look(ctx, "after another's rotation")
	if w.consumers.current == w.previous {
		return errors.New("the clone isn't current")
	}
	return nil
}

// retirePrevious is keyturn adopt. Once the drain has begun there is nothing left
// to ask for.
func (w *walk) retirePrevious(ctx context.Context) error {
	return w.insist(ctx, func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.RetirePrevious(ctx, w.arn)
		if err == nil {
			return nil
		}
		v, unseen := w.versions(outside(ctx))
		if unseen == nil && v.Has(w.previous, rotation.Live(w.previous)) {
			return nil
		}
		return err
	})
}

// cancelRotation is what somebody does who wants no rotation, in the middle of one.
func (w *walk) cancelRotation(ctx context.Context) {
	w.mu.Lock()
	w.cancelled = true
	w.mu.Unlock()
	if _, err := w.plain.CancelRotateSecret(ctx, &secretsmanager.CancelRotateSecretInput{SecretId: &w.arn}); err != nil {
		w.broken("the rotation can't be cancelled: %v", err)
	}
}

// switchOn undoes a CancelRotateSecret before an emergency is called again.
func (w *walk) switchOn(ctx context.Context) {
	if !w.wasCancelled() {
		return
	}
	if err := w.configure(ctx); err != nil {
		w.broken("rotation can't be switched on again: %v", err)
	}
}

// asFound calls what the finding RotationOff says where a stolen credential is
// current, and no more than that. It reports whether there was a reason.
func (w *walk) asFound(ctx context.Context) bool {
	if !w.wasCancelled() {
		return false
	}
	if _, err := w.plain.RotateSecret(ctx, &secretsmanager.RotateSecretInput{SecretId: &w.arn}); err != nil {
		w.broken("what the finding says can't be done: %v", err)
	}
	return true
}

func (w *walk) wasCancelled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.cancelled
	w.cancelled = false
	return was
}

// hang is a call that is never answered. The others work on while the function's
// time passes; then Lambda ends its process.
func (w *walk) hang(inv *invocation) error {
	w.pass(inv, inv.began.Add(functionLimit))
	inv.late.Store(true)
	return w.crash(inv)
}

// pass lets the walk's time pass while an invocation waits.
func (w *walk) pass(inv *invocation, end time.Time) {
	const patience = 5 * time.Second // for others that work, in real time
	began := time.Now()
	for w.aws.Clock.Now().Before(end) && !inv.dead.Load() {
		time.Sleep(300 * time.Microsecond)
		if w.functions.alone(inv) || time.Since(began) > patience {
			w.advance(time.Second)
		}
	}
}

// ownCall is a call that the state machine makes by itself: the hand-over to the
// next generation.
func (w *walk) ownCall(ctx context.Context, action string, before bool) error {
	w.mu.Lock()
	if before {
		w.ownCalls++
		w.ownKind = w.plan.at(Point{"state machine", w.ownCalls, 1, layerStates, action})
	}
	kind := w.ownKind
	w.mu.Unlock()
	switch {
	case before && kind == Throttle:
		return &awsproto.Error{Code: "ThrottlingException", Status: 400, Message: "Rate exceeded"}
	case before && kind == ServerError, !before && kind == AnswerLost:
		return &awsproto.Error{Code: "InternalServerError", Status: 500, Message: "an internal error"}
	case before && kind == Zombie:
		w.overtake(ctx, nil, kind) // the call is made all the same
	}
	return nil
}
