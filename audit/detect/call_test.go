package detect_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/rotation"
)

func TestCallsOfOthers(t *testing.T) {
	t.Parallel()
	const (
		user   = `"sourceIPAddress":"203.0.113.7","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::1:user/eve"}`
		byCFN  = `"sourceIPAddress":"cloudformation.amazonaws.com","userIdentity":{"type":"AssumedRole","arn":"arn:aws:sts::1:assumed-role/deployer/x","invokedBy":"cloudformation.amazonaws.com"}`
		ours   = `"secretId":"orders/db"`
		asked  = `"eventName":"RotateSecret","requestParameters":{` + ours + `,"clientRequestToken":"t"}`
		denied = `,"errorCode":"AccessDeniedException"`
	)
	for name, tt := range map[string]struct {
		event   string
		machine bool
		want    string // empty: nothing is told
	}{
		"a rotation is asked for":              {event: user + "," + asked},
		"by a deployment":                      {event: byCFN + "," + asked},
		"at once, or only to try":              {event: user + `,"eventName":"RotateSecret","requestParameters":{` + ours + `,"rotateImmediately":false,"rotationLambdaARN":null}`},
		"refused: one is going on":             {event: user + "," + asked + `,"errorCode":"InvalidRequestException"`},
		"refused: no right":                    {event: user + "," + asked + denied, want: "arn:aws:iam::1:user/eve called RotateSecret from 203.0.113.7, which was refused: AccessDeniedException"},
		"of a secret that the machine rotates": {event: user + "," + asked, machine: true, want: "arn:aws:iam::1:user/eve called RotateSecret from 203.0.113.7"},
		"another function":                     {event: user + `,"eventName":"RotateSecret","requestParameters":{` + ours + `,"rotationLambdaARN":"arn:aws:lambda:us-east-1:1:function:f"}`, want: "arn:aws:iam::1:user/eve called RotateSecret"},
		"other rules":                          {event: user + `,"eventName":"RotateSecret","requestParameters":{` + ours + `,"rotationRules":{"automaticallyAfterDays":1000}}`, want: "arn:aws:iam::1:user/eve called RotateSecret"},
		"what there isn't yet":                 {event: user + `,"eventName":"RotateSecret","requestParameters":{` + ours + `,"newParameter":"x"}`, want: "arn:aws:iam::1:user/eve called RotateSecret"},
		"another call, like it":                {event: user + `,"eventName":"CancelRotateSecret","requestParameters":{` + ours + `}`, want: "arn:aws:iam::1:user/eve called CancelRotateSecret"},
		"an uninstall, which pauses": {
			event: user + `,"eventName":"TagResource","requestParameters":{` + ours + `,"tags":[{"key":"keyturn:pause","value":"by keyturn uninstall"}]}`,
			want:  "arn:aws:iam::1:user/eve called TagResource from 203.0.113.7",
		},
		"a pause that is taken off": {event: user + `,"eventName":"UntagResource","requestParameters":{` + ours + `,"tagKeys":["keyturn:pause"]}`, want: "arn:aws:iam::1:user/eve called UntagResource"},
		"a deployment's schedule":   {event: byCFN + `,"eventName":"RotateSecret","requestParameters":{` + ours + `,"rotationRules":{}}`, want: "CloudFormation called RotateSecret with the rights of arn:aws:sts::1:assumed-role/deployer/x"},
		"a deployment's policy":     {event: byCFN + `,"eventName":"PutResourcePolicy","requestParameters":{` + ours + `}`, want: "CloudFormation called PutResourcePolicy"},
		"who says that he is CloudFormation": {
			event: user + `,"userAgent":"cloudformation.amazonaws.com","eventName":"PutResourcePolicy","requestParameters":{` + ours + `}`,
			want:  "arn:aws:iam::1:user/eve called PutResourcePolicy from 203.0.113.7",
		},
		"through another service": {event: `"userIdentity":{"type":"AWSService","invokedBy":"backup.amazonaws.com"},"eventName":"TagResource","requestParameters":{` + ours + `}`, want: "AWSService called TagResource from an unknown address through backup.amazonaws.com"},
		"by nobody that is named": {event: `"eventName":"DeleteSecret","requestParameters":{` + ours + `}`, want: "somebody called DeleteSecret from an unknown address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c detect.Call
			if err := json.Unmarshal([]byte("{"+tt.event+"}"), &c); err != nil {
				t.Fatal(err)
			}
			if c.Secret() != "orders/db" {
				t.Errorf("the call names %q", c.Secret())
			}
			p := policy
			p.Driver = rotation.DriverSecretsManager
			if tt.machine {
				p.Driver = rotation.DriverMachine
			}
			f := detect.Foreign(c, p, time.Unix(0, 0))
			switch {
			case tt.want == "" && f != nil:
				t.Errorf("told %+v", f)
			case tt.want != "" && (f == nil || f.Name != detect.ForeignCall || f.Secret != secret || f.Do == "" || !strings.HasPrefix(f.Saw, tt.want)):
				t.Errorf("told %+v, want %q", f, tt.want)
			}
		})
	}
	for _, request := range []string{`null`, `{}`, `{"secretId":7}`} {
		var c detect.Call
		if err := json.Unmarshal([]byte(`{"requestParameters":`+request+`}`), &c); err != nil || c.Secret() != "" {
			t.Errorf("%s: %v, names %q", request, err, c.Secret())
		}
	}
}
