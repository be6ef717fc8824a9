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

// Emergency carries out the acts of an emergency, by name.
func Emergency(r *rotation.Rotator) Handler {
	acts := map[string]func(context.Context, rotation.Request) (rotation.Result, error){
		"mark": r.MarkStolen, "cut": r.Cut, "replace": r.Replace, "bury": r.Bury,
	}
	return func(ctx context.Context, event []byte) (any, error) {
		var e emergencyEvent
		if err := Decode(event, &e); err != nil {
			return nil, err
		}
		req := rotation.Request{Secret: e.Secret, Token: e.Token, Direction: rotation.Head, Generation: 1, Cursor: e.Cursor}
		if err := (stepEvent{Direction: req.Direction, Generation: req.Generation, Cursor: e.Cursor, Polls: e.Polls}).check(); err != nil {
			return nil, err
		}
		if e.Act == "foretell" {
			plan, err := r.Foretell(ctx, e.Secret, e.Cut)
			return answer(rotation.Result{Outcome: rotation.Done, Missing: append(plan.Blockers, plan.Breaks...)}, e.Polls), err
		}
		act, ok := acts[e.Act]
		if !ok {
			return nil, fault.New(fault.InvalidInput, "the event's field %q is %q, which is no act of an emergency", "act", e.Act).
				WithHint("deploy the functions and the state machine from one release")
		}
		res, err := act(ctx, req)
		if err != nil {
			return nil, err
		}
		return answer(res, e.Polls), nil
	}
}
