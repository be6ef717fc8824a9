package lambdaentry

import (
	"context"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// rotateEvent is what Secrets Manager sends to a rotation function. Fields that
// AWS may add later are tolerated (rule C1).
type rotateEvent struct {
	Step          string `json:"Step"`
	SecretID      string `json:"SecretId"`
	Token         string `json:"ClientRequestToken"`
	RotationToken string `json:"RotationToken"`
}

// FourSteps is Secrets Manager's contract: the four steps, in process. A step
// that has to wait fails, because Secrets Manager knows no waiting and tries
// the whole rotation again.
func FourSteps(r *rotation.Rotator) Handler {
	steps := map[string]func(context.Context, rotation.Request) (rotation.Result, error){
		"createSecret": r.Create,
		"setSecret":    r.Set,
		"testSecret":   r.Test,
		"finishSecret": r.Finish,
	}
	return func(ctx context.Context, event []byte) (any, error) {
		var e rotateEvent
		if err := strictjson.DecodeKnown(event, &e); err != nil {
			return nil, fault.New(fault.InvalidInput, "the event can't be read as a rotation event: %s", err).
				WithHint("only Secrets Manager calls this function")
		}
		step, ok := steps[e.Step]
		if !ok {
			return nil, fault.New(fault.InvalidInput, "Step is %q", e.Step).
				WithHint("it must be createSecret, setSecret, testSecret or finishSecret: only Secrets Manager calls this function")
		}
		res, err := step(ctx, rotation.Request{
			Secret: e.SecretID, Token: e.Token, Direction: rotation.Head, ByStore: true,
			RotationToken: rotation.NewValue(e.RotationToken),
		})
		if err != nil {
			return nil, err
		}
		if res.Outcome != rotation.Done {
			return nil, fault.New(fault.Unavailable, "%s isn't done: %v", e.Step, res.Missing).
				WithHint("Secrets Manager tries the rotation again; a login that others' rotations have left alive goes by keyturn adopt")
		}
		return map[string]string{"outcome": string(res.Outcome)}, nil
	}
}
