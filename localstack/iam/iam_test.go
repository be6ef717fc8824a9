package iam_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/iam"
)

const (
	role     = "arn:aws:iam::000000000000:role/a"
	secret   = "arn:aws:secretsmanager:us-east-1:000000000000:secret:orders/db-AbCdEf"
	key      = "arn:aws:kms:us-east-1:000000000000:key/1"
	function = "arn:aws:lambda:us-east-1:000000000000:function:rotate:live"
)

func lookUp(id string) iam.Secret {
	if id == "orders/db" {
		return iam.Secret{ARN: secret, Key: key, RotatedBy: function}
	}
	return iam.Secret{ARN: id}
}

// What is asked, as action, resource, and the condition keys in order.
func TestOfJSON(t *testing.T) {
	t.Parallel()
	const underKey = " kms:EncryptionContext:SecretARN=" + secret + " kms:ViaService=secretsmanager.us-east-1.amazonaws.com"
	for call, want := range map[string][]string{
		`secretsmanager ListSecrets {}`:                          {"secretsmanager:ListSecrets *"},
		`secretsmanager DescribeSecret {"SecretId":"orders/db"}`: {"secretsmanager:DescribeSecret " + secret},
		`secretsmanager GetSecretValue {"SecretId":"arn:x"}`:     {"secretsmanager:GetSecretValue arn:x"},
		`secretsmanager GetSecretValue {"SecretId":"orders/db"}`: {"secretsmanager:GetSecretValue " + secret, "kms:Decrypt " + key + underKey},
		`secretsmanager PutSecretValue {"SecretId":"orders/db"}`: {"secretsmanager:PutSecretValue " + secret, "kms:GenerateDataKey " + key + underKey, "kms:Decrypt " + key + underKey},
		`secretsmanager RotateSecret {"SecretId":"orders/db"}`:   {"secretsmanager:RotateSecret " + secret, "lambda:InvokeFunction " + function},
		`states StartExecution {"stateMachineArn":"arn:m"}`:      {"states:StartExecution arn:m"},
		`states StartExecution {"StateMachineArn":"arn:m"}`:      {"states:StartExecution arn:m"}, // as an integration writes it
		`lambda Invoke {"FunctionName":"rotate:live"}`:           {"lambda:InvokeFunction " + function},
		`events PutEvents {"Entries":[{"Source":"keyturn"}, {"Source":"b","EventBusName":"arn:bus"}]}`: {
			"events:PutEvents arn:aws:events:us-east-1:000000000000:event-bus/default events:detail-type= events:source=keyturn",
			"events:PutEvents arn:bus events:detail-type= events:source=b",
		},
	} {
		words := strings.SplitN(call, " ", 3)
		got, err := iam.OfJSON(role, words[0], words[1], []byte(words[2]), lookUp)
		if diff := cmp.Diff(want, spelled(got)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", call, err, diff)
		}
	}
	if got, err := iam.OfJSON(role, "secretsmanager", "DeleteSecret", nil, lookUp); err == nil {
		t.Errorf("a call that isn't known asks %v", got)
	}
	if got, err := iam.OfJSON(role, "secretsmanager", "GetSecretValue", []byte("{"), lookUp); err == nil {
		t.Errorf("an input that isn't JSON asks %v", got)
	}
}

func TestOfObject(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"GET /b?list-type=2&prefix=records%2F": "s3:ListBucket arn:aws:s3:::b s3:prefix=records/",
		"GET /b?list-type=2":                   "s3:ListBucket arn:aws:s3:::b",
		"PUT /b/records/1.json?x-id=PutObject": "s3:PutObject arn:aws:s3:::b/records/1.json s3:if-none-match=*",
		"GET /b/records/1.json?x-id=GetObject": "s3:GetObject arn:aws:s3:::b/records/1.json",
		"HEAD /b/records/1.json":               "s3:GetObject arn:aws:s3:::b/records/1.json",
		"GET /b/records/1.json?versionId=3":    "s3:GetObjectVersion arn:aws:s3:::b/records/1.json",
		"GET /":                                "",
		"DELETE /b/records/1.json":             "",
		"GET /b?policy":                        "",
		"PUT /b/records/1.json?retention":      "",
	} {
		method, target, _ := strings.Cut(call, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "http://s3.local"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPut {
			r.Header.Set("If-None-Match", "*")
		}
		got, err := iam.OfObject(role, r)
		if (err == nil) != (want != "") || strings.Join(spelled(got), "; ") != want {
			t.Errorf("%s asks %v, %v; want %q", call, spelled(got), err, want)
		}
	}
}

func spelled(asked []iam.Request) []string {
	var all []string
	for _, r := range asked {
		text := r.Action + " " + r.Resource
		for _, k := range []string{
			"kms:EncryptionContext:SecretARN", "kms:ViaService", "events:detail-type", "events:source", "s3:prefix", "s3:if-none-match",
		} {
			if v, given := r.Context[k]; given {
				text += " " + k + "=" + v
			}
		}
		if r.Principal != role {
			text += " by " + r.Principal
		}
		all = append(all, text)
	}
	return all
}
