package localstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/iam"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// Asked is told, before a call is made by the session of a role, what IAM would be
// asked about it; err is a call that package iam doesn't know. It is called from
// many goroutines.
type Asked func(asked []iam.Request, err error)

// note tells of a request that a role's session has sent.
func (a *AWS) note(r *http.Request) {
	caller := awsproto.CallerOf(r.Context())
	if a.asked == nil || caller.Role == "" {
		return
	}
	service := awsproto.SignedFor(r)
	if service == "s3" {
		a.asked(iam.OfObject(caller.Role, r))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.asked(nil, fmt.Errorf("reading a call of %s by %s: %w", service, caller.Role, err))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, action := awsproto.CutTarget(r.Header.Get("X-Amz-Target"))
	a.asked(iam.OfJSON(caller.Role, service, action, body, a.lookUp))
}

// noteTask tells of a call that a state makes with its machine's role.
func (a *AWS) noteTask(role string, call asl.TaskCall) {
	if a.asked == nil {
		return
	}
	service, action := "lambda", "Invoke"
	if call.SDK {
		service, action = call.Service, upper(call.Action)
		if service == "sfn" {
			service = "states"
		}
	}
	a.asked(iam.OfJSON(role, service, action, call.Input, a.lookUp))
}

// lookUp implements iam.Secrets.
func (a *AWS) lookUp(id string) iam.Secret {
	s := iam.Secret{ARN: id}
	body, err := json.Marshal(map[string]string{"SecretId": id})
	if err != nil {
		return s
	}
	out, err := a.SecretsManager.Call(context.Background(), "DescribeSecret", body)
	if err != nil {
		return s
	}
	var found struct{ ARN, KmsKeyId, RotationLambdaARN string } //nolint:revive // the API's name
	text, err := json.Marshal(out)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return s
	}
	return iam.Secret{ARN: found.ARN, Key: found.KmsKeyId, RotatedBy: found.RotationLambdaARN}
}
