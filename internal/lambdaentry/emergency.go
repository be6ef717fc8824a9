package lambdaentry

import (
	"context"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// emergencyEvent is what emergency.asl.json sends.
type emergencyEvent struct {
	Act    string `json:"act"`
	Secret string `json:"secret"`
	Token  string `json:"token"`
	Cut    bool   `json:"cut"`
	Cursor string `json:"cursor"`
	Polls  int    `json:"polls"`
}

// act is one of an emergency's, by its name in emergency.asl.json.
type act func(context.Context, rotation.Request) (rotation.Result, error)

// Emergency carries out the acts of an emergency that need labels and runs.
func Emergency(r *rotation.Rotator) Handler {
	return emergencyActs(func(emergencyEvent) map[string]act {
		return map[string]act{"mark": r.MarkStolen, "replace": r.Replace, "bury": r.Bury}
	})
}

// Cut carries out those that need the target, the operator's plan, and the repair
// of a restored one.
func Cut(r *rotation.Rotator) Handler {
	acts := emergencyActs(func(e emergencyEvent) map[string]act {
		return map[string]act{"cut": r.Cut, ActRecreate: r.Recreate, "foretell": func(ctx context.Context, req rotation.Request) (rotation.Result, error) {
			plan, err := r.Foretell(ctx, req.Secret, e.Cut)
			return rotation.Result{Outcome: rotation.Done, Missing: append(plan.Blockers, plan.Breaks...)}, err
		}}
	})
	return func(ctx context.Context, event []byte) (any, error) {
		if secret, ok := planned(event); ok {
			return forecast(ctx, r, secret)
		}
		return acts(ctx, event)
	}
}

func emergencyActs(acts func(emergencyEvent) map[string]act) Handler {
	return func(ctx context.Context, event []byte) (any, error) {
		var e emergencyEvent
		if err := Decode(event, &e); err != nil {
			return nil, err
		}
		req := rotation.Request{Secret: e.Secret, Token: e.Token, Direction: rotation.Head, Generation: 1, Cursor: e.Cursor}
		if err := (stepEvent{Direction: req.Direction, Generation: req.Generation, Cursor: e.Cursor, Polls: e.Polls}).check(); err != nil {
			return nil, err
		}
		do, ok := acts(e)[e.Act]
		if !ok {
			return nil, fault.New(fault.InvalidInput, "the event's field %q is %q, which is no act of this function", "act", e.Act).
				WithHint("deploy the functions and the state machine from one release")
		}
		res, err := do(ctx, req)
		if err != nil {
			return nil, err
		}
		return answer(res, e.Polls), nil
	}
}
