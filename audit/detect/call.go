package detect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// Call is CloudTrail's record of a call of Secrets Manager, as far as it is judged
// (CloudTrail user guide, "record contents", "userIdentity element").
type Call struct {
	EventName string `json:"eventName"`
	ErrorCode string `json:"errorCode"`
	SourceIP  string `json:"sourceIPAddress"`
	User      struct {
		Type string `json:"type"`
		ARN  string `json:"arn"`
		// InvokedBy is the service that called with somebody's rights. AWS sets it.
		InvokedBy string `json:"invokedBy"`
	} `json:"userIdentity"`
	Request map[string]json.RawMessage `json:"requestParameters"`
}

// Secret is what the call named: a name, an ARN, or part of one. Empty: nothing.
func (c Call) Secret() string {
	var name string
	_ = json.Unmarshal(c.Request["secretId"], &name) // what is no text names nothing
	return name
}

// cloudFormation is how CloudTrail names CloudFormation as a caller.
const cloudFormation = "cloudformation.amazonaws.com"

// Foreign judges a call on a managed secret by somebody who isn't Keyturn; nil: it
// is nobody's business.
//
// Whoever may call RotateSecret asks for a rotation that way, where Secrets Manager
// drives it: that isn't told, unless it was refused for want of the right, or also
// changes by whom or when the secret is rotated.
//
// What CloudFormation calls while a stack is deployed is told, in words of its
// own. That the service called can't be forged, but which stack it was the event
// doesn't say, and whoever may deploy one can let it call.
func Foreign(c Call, p rotation.Policy, at time.Time) *rotation.Finding {
	if c.asksForRotation() && p.Driver == rotation.DriverSecretsManager && !strings.HasPrefix(c.ErrorCode, "AccessDenied") {
		return nil
	}
	who := cmp.Or(c.User.ARN, c.User.Type, "somebody")
	saw := fmt.Sprintf("%s called %s from %s", who, c.EventName, cmp.Or(c.SourceIP, "an unknown address"))
	do := "see that it was meant (docs/operating.md, Somebody wrote to a managed secret by hand); keyturn status shows what follows"
	switch c.User.InvokedBy {
	case "":
	case cloudFormation:
		saw = fmt.Sprintf("CloudFormation called %s with the rights of %s", c.EventName, who)
		do = "nothing, if Keyturn was deployed or destroyed then; else find out whose stack has a resource for this secret"
	default:
		saw += " through " + c.User.InvokedBy
	}
	if c.ErrorCode != "" {
		saw += ", which was refused: " + c.ErrorCode
	}
	return &rotation.Finding{Name: ForeignCall, Secret: p.Secret, Since: at.UTC(), Saw: saw, Do: do}
}

// asking are the parameters of a RotateSecret that configures nothing (API
// reference, RotateSecret); any other one may.
var asking = []string{"secretId", "clientRequestToken", "rotateImmediately"}

func (c Call) asksForRotation() bool {
	for name, value := range c.Request {
		if !slices.Contains(asking, name) && string(value) != "null" {
			return false
		}
	}
	return c.EventName == "RotateSecret"
}
