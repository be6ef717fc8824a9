package lambdaentry

import (
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// Deployed is the answer to AboutEvent: what a deployment works by.
type Deployed struct {
	Policy json.RawMessage `json:"policy"` // the compiled document
}

// AboutEvent asks the watchdog for Deployed; it looks at no secret.
const AboutEvent = `{"about":true}`

// isAbout is strict: EventBridge's events have no such field, and an event of
// anybody else's is a look at every secret.
func isAbout(event []byte) bool {
	var e struct {
		About bool `json:"about"`
	}
	return strictjson.Decode(event, &e) == nil && e.About
}

func about(policies rotation.Policies) (Deployed, error) {
	document, ok := policies.(interface{ JSON() []byte })
	if !ok {
		return Deployed{}, fault.New(fault.Internal, "this function has no policy document")
	}
	return Deployed{Policy: document.JSON()}, nil
}

// PlanEvent asks cutSecret for a rotation.Forecast of one secret; it changes nothing.
type PlanEvent struct {
	Act    string `json:"act"` // ActPlan
	Secret string `json:"secret"`
}

// The operator's acts of cutSecret: ActPlan is a PlanEvent's; ActRecreate a
// RecreateEvent's, which is answered like a step.
const (
	ActPlan     = "plan"
	ActRecreate = "recreate"
)

// RecreateEvent asks cutSecret to make the current login again.
type RecreateEvent struct {
	Act    string `json:"act"`
	Secret string `json:"secret"`
	Token  string `json:"token"` // a new id, under which the audit trail has it
}

// Acted is what an act came to.
type Acted = stepAnswer

func planned(event []byte) (secret string, ok bool) {
	var e PlanEvent
	if strictjson.Decode(event, &e) != nil || e.Act != ActPlan {
		return "", false
	}
	return e.Secret, true
}

// forecast redacts like every answer: a blocker is often the text of an error.
func forecast(ctx context.Context, r *rotation.Rotator, secret string) (rotation.Forecast, error) {
	f, err := r.Forecast(ctx, secret)
	if err != nil {
		return rotation.Forecast{}, err
	}
	for _, texts := range []*[]string{&f.Parties, &f.Breaks, &f.Blockers, &f.Notes} {
		*texts = append([]string{}, redactAll(*texts)...)
	}
	return f, nil
}
