// Package iam answers: what would IAM be asked about this call?
//
// It names the action, the resource and the condition keys that a request is
// authorized by, as the Service Authorization Reference has them for the services
// of the local AWS. It decides nothing: tests give what it says, with a
// deployment's policies, to a simulator.
//
// It knows the calls that Keyturn's roles make. Another one is an error, so that
// no call goes unjudged.
package iam

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// Request is one question to IAM.
type Request struct {
	Principal string `json:"principal"` // the role's ARN
	Action    string `json:"action"`    // as policies name it: s3:PutObject
	Resource  string `json:"resource"`  // an ARN, or * for an action that knows none
	// Context has the condition keys that the service sets, beside the global ones.
	Context map[string]string `json:"context"`
	// Through is the call that asks this of another service, with the caller's
	// rights: secretsmanager:GetSecretValue asks KMS to decrypt. "" for a call itself.
	Through string `json:"through,omitempty"`
}

// Secret is what has to be known of one to say what a call on it needs.
type Secret struct {
	ARN string
	// Key is the customer key that its values lie under; "" for AWS's own, whose
	// policy lets the account's roles use it through Secrets Manager.
	Key string
	// RotatedBy is the function that rotates it; "" if none does.
	RotatedBy string
}

// Secrets looks one up by what a request calls it: a name or an ARN. A secret that
// isn't there has the ARN that it was called by.
type Secrets func(id string) Secret

// OfJSON is what an AWS JSON or query call asks; service is the one that its
// signature names, and body its input.
func OfJSON(principal, service, action string, body []byte, secrets Secrets) ([]Request, error) {
	var in input
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("reading what %s:%s is called with: %w", service, action, err)
		}
	}
	of, known := actions[service+":"+action]
	if !known {
		return nil, fmt.Errorf("what IAM is asked about %s:%s isn't known here", service, action)
	}
	asked := of(in, secrets)
	for i := range asked {
		asked[i].Principal = principal
	}
	return asked, nil
}

// input is the part of inputs that authorization looks at. Members differ in case
// between services; encoding/json doesn't mind.
type input struct {
	SecretID           string `json:"SecretId"`
	RotationLambdaARN  string `json:"RotationLambdaARN"`
	StateMachineARN    string `json:"stateMachineArn"`
	ExecutionARN       string `json:"executionArn"`
	KeyID              string `json:"KeyId"`
	FunctionName       string `json:"FunctionName"`
	Entries            []struct{ Source, DetailType, EventBusName string }
	RequestedQualifier string `json:"Qualifier"`
}

// actions are the calls of Keyturn's roles.
var actions = map[string]func(input, Secrets) []Request{
	"secretsmanager:ListSecrets":              anything("secretsmanager:ListSecrets"),
	"secretsmanager:DescribeSecret":           onSecret("DescribeSecret"),
	"secretsmanager:UpdateSecretVersionStage": onSecret("UpdateSecretVersionStage"),
	"secretsmanager:GetSecretValue":           onSecret("GetSecretValue", "kms:Decrypt"),
	// The value that is there is compared with the one that comes (user guide,
	// "Secret encryption and decryption").
	"secretsmanager:PutSecretValue": onSecret("PutSecretValue", "kms:GenerateDataKey", "kms:Decrypt"),
	"secretsmanager:RotateSecret":   rotateSecret,

	"states:StartExecution":    func(in input, _ Secrets) []Request { return one("states:StartExecution", in.StateMachineARN) },
	"states:DescribeExecution": func(in input, _ Secrets) []Request { return one("states:DescribeExecution", in.ExecutionARN) },
	"states:StopExecution":     func(in input, _ Secrets) []Request { return one("states:StopExecution", in.ExecutionARN) },
	"lambda:Invoke":            func(in input, _ Secrets) []Request { return one("lambda:InvokeFunction", qualified(in)) },
	"kms:Sign":                 func(in input, _ Secrets) []Request { return one("kms:Sign", in.KeyID) },
	"events:PutEvents":         putEvents,
}

func one(action, resource string) []Request {
	return []Request{{Action: action, Resource: resource, Context: map[string]string{}}}
}

func anything(action string) func(input, Secrets) []Request {
	return func(input, Secrets) []Request { return one(action, "*") }
}

// onSecret is a call on a secret, and what Secrets Manager then asks of KMS for
// its caller. KMS is told the secret by the encryption context (user guide, "Secret
// encryption and decryption").
func onSecret(action string, key ...string) func(input, Secrets) []Request {
	return func(in input, secrets Secrets) []Request {
		s := secrets(in.SecretID)
		asked := one("secretsmanager:"+action, s.ARN)
		for _, k := range key {
			if s.Key == "" {
				break
			}
			asked = append(asked, Request{
				Action: k, Resource: s.Key, Through: "secretsmanager:" + action,
				Context: map[string]string{
					"kms:ViaService": "secretsmanager." + awsproto.Region + ".amazonaws.com", "kms:EncryptionContext:SecretARN": s.ARN,
				},
			})
		}
		return asked
	}
}

// rotateSecret needs the right to invoke the rotation function, too (API
// reference, RotateSecret).
func rotateSecret(in input, secrets Secrets) []Request {
	s := secrets(in.SecretID)
	asked := one("secretsmanager:RotateSecret", s.ARN)
	function := s.RotatedBy
	if in.RotationLambdaARN != "" {
		function = in.RotationLambdaARN
		asked[0].Context["secretsmanager:RotationLambdaARN"] = function
	}
	if function != "" {
		asked = append(asked, Request{
			Action: "lambda:InvokeFunction", Resource: function, Through: "secretsmanager:RotateSecret", Context: map[string]string{},
		})
	}
	return asked
}

// qualified is the ARN of the version or alias that is invoked.
func qualified(in input) string {
	name := in.FunctionName
	if !strings.HasPrefix(name, "arn:") {
		name = "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:" + name
	}
	if in.RequestedQualifier != "" {
		name += ":" + in.RequestedQualifier
	}
	return name
}

// putEvents is asked entry by entry.
func putEvents(in input, _ Secrets) []Request {
	var asked []Request
	for _, e := range in.Entries {
		bus := e.EventBusName
		if !strings.HasPrefix(bus, "arn:") {
			if bus == "" {
				bus = "default"
			}
			bus = "arn:aws:events:" + awsproto.Region + ":" + awsproto.Account + ":event-bus/" + bus
		}
		asked = append(asked, Request{
			Action: "events:PutEvents", Resource: bus, Context: map[string]string{"events:source": e.Source, "events:detail-type": e.DetailType},
		})
	}
	return asked
}
