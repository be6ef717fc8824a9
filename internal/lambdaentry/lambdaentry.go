// Package lambdaentry answers: how does a Lambda event become the call of a
// step, and an error the name that Step Functions routes on?
//
// It is the only importer of aws-lambda-go/lambda. It decodes strictly, runs
// the step, recovers a panic, takes the fault's name and only then redacts the
// text: the runtime prints the whole error and Step Functions keeps it as Cause.
package lambdaentry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// Handler takes one event and returns its answer, both JSON.
type Handler func(ctx context.Context, event []byte) (any, error)

// Build wires a function's parts at cold start. An error ends the process, so
// that a wrong setting is seen at deployment and not in the middle of a rotation.
type Build func(ctx context.Context, log *slog.Logger) (Handler, error)

// gcPercent halves Go's default: 1.5 MiB less at work, and no slower, because a
// step's garbage is small and its time goes into waiting for answers.
const gcPercent = 50

// oneProcessor is enough for a step, which waits for one answer after the other;
// with more, every switch between goroutines would wake a thread, and Lambda gives
// a function of this size less than one anyway. It is set at the first event: a
// cold start has things to do side by side.
var oneProcessor = sync.OnceFunc(func() { runtime.GOMAXPROCS(1) })

// Run is the whole main of a function. It doesn't return.
func Run(build Build) {
	debug.SetGCPercent(gcPercent)
	log := Logger(os.Stderr)
	handler, err := build(context.Background(), log)
	if err != nil {
		log.Error("the function can't start", "fault", fault.NameOf(err), "error", brief(err.Error()), "hint", fault.HintOf(err))
		os.Exit(1)
	}
	lambda.StartHandlerFunc(func(ctx context.Context, event json.RawMessage) (any, error) {
		oneProcessor()
		if isPing(event) {
			return map[string]bool{"pong": true}, nil
		}
		return serve(ctx, log, handler, event)
	})
}

// isPing tells the event that keeps a function in use: Lambda takes the network
// interfaces away from one in a VPC that nobody calls for weeks, and fails its next
// call (developer guide, "Lambda function states").
func isPing(event []byte) bool {
	var e struct {
		Ping bool `json:"ping"`
	}
	return strictjson.Decode(event, &e) == nil && e.Ping
}

func serve(ctx context.Context, log *slog.Logger, handler Handler, event []byte) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = lambdaError(fault.New(fault.Internal, "panic: %v", p))
			log.ErrorContext(ctx, "panic", "value", brief(fmt.Sprint(p)))
		}
	}()
	ctx, cancel := inTime(ctx)
	defer cancel()
	answer, err = handler(ctx, event)
	if err != nil {
		log.WarnContext(ctx, "the step failed", "fault", fault.NameOf(err), "error", brief(err.Error()), "hint", fault.HintOf(err))
		return nil, lambdaError(err)
	}
	return answer, nil
}

// lambdaError is returned by value: the runtime recognises nothing else, and
// would send the Go type's name instead of the fault's.
func lambdaError(err error) messages.InvokeResponse_Error {
	text := brief(err.Error())
	if hint := fault.HintOf(err); hint != "" {
		text += " (hint: " + brief(hint) + ")"
	}
	return messages.InvokeResponse_Error{Type: string(NameOf(err)), Message: text}
}

// NameOf is the fault's name of any error; a context that ran out before an
// answer came is ambiguous, whoever returned it.
func NameOf(err error) fault.Name {
	if name := fault.NameOf(err); name != fault.Internal {
		return name
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Ambiguous
	}
	return fault.Internal
}

// stepEvent is what the state machine sends: rotation.asl.json's Payload.
type stepEvent struct {
	Secret     string             `json:"secret"`
	Token      string             `json:"token"`
	Direction  rotation.Direction `json:"direction"`
	Generation int                `json:"generation"`
	Cursor     string             `json:"cursor"`
	Polls      int                `json:"polls"`
}

const (
	mostGeneration = 999_999   // rotation.Rank keeps a direction's generations apart up to there
	mostPolls      = 1_000_000 // the state machine hands over long before
	mostCursor     = 256 << 10 // an execution's state can't be larger
)

// check refuses what no state machine of ours sends.
func (e stepEvent) check() error {
	wrong := func(field, must string) error {
		return fault.New(fault.InvalidInput, "the event's field %q must be %s", field, must).
			WithHint("start runs with the keyturn command; executions that are started by hand need its input")
	}
	switch e.Direction {
	case rotation.Head, rotation.Forward, rotation.Back:
	default:
		return wrong("direction", "head, forward or back")
	}
	switch {
	case e.Generation < 1 || e.Generation > mostGeneration:
		return wrong("generation", fmt.Sprintf("from 1 to %d", mostGeneration))
	case e.Polls < 0 || e.Polls > mostPolls:
		return wrong("polls", fmt.Sprintf("from 0 to %d", mostPolls))
	case len(e.Cursor) > mostCursor:
		return wrong("cursor", fmt.Sprintf("of at most %d bytes", mostCursor))
	}
	return nil
}

// stepAnswer is what it reads: small, and references only.
type stepAnswer struct {
	Outcome  rotation.Outcome    `json:"outcome"`
	Missing  []string            `json:"missing"`
	After    int                 `json:"after_seconds"`
	Cursor   string              `json:"cursor"`
	Polls    int                 `json:"polls"`
	Evidence []rotation.Evidence `json:"evidence,omitempty"`
	Notes    []string            `json:"notes,omitempty"`
}

// Step makes a handler of one step.
func Step(step func(context.Context, rotation.Request) (rotation.Result, error)) Handler {
	return func(ctx context.Context, event []byte) (any, error) {
		var e stepEvent
		if err := Decode(event, &e); err != nil {
			return nil, err
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		res, err := step(ctx, rotation.Request{
			Secret: e.Secret, Token: e.Token, Direction: e.Direction, Generation: e.Generation, Cursor: e.Cursor,
		})
		if err != nil {
			return nil, err
		}
		return answer(res, e.Polls), nil
	}
}

// answer redacts like an error: what is missing is often the text of one.
func answer(res rotation.Result, polls int) stepAnswer {
	switch res.Outcome {
	case rotation.Wait, rotation.Unknown, rotation.Reopened: // whatever may come again without end
		polls++
	}
	return stepAnswer{
		Outcome: res.Outcome, Missing: some(res.Missing), After: seconds(res.After), Cursor: res.Cursor, Polls: polls,
		Evidence: proofs(res.Evidence), Notes: some(res.Notes),
	}
}

// seconds is what a Wait state takes: whole, and at least one.
func seconds(d time.Duration) int {
	return int(max(1, math.Ceil(d.Seconds())))
}

// Decode reads an event strictly: an unknown field is a version mismatch
// between the caller and this function, and is named.
func Decode(event []byte, into any) error {
	if err := strictjson.Decode(event, into); err != nil {
		return fault.New(fault.InvalidInput, "the event can't be read: %s", err).
			WithHint("deploy the functions and the state machine from one release")
	}
	return nil
}
