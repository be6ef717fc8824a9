package logs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/logsubscription"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/logs"
)

const function = "arn:aws:lambda:us-east-1:000000000000:function:late:live"

// functions remember what they were sent, decoded as the product decodes it.
type functions struct {
	t    *testing.T
	sent []string
}

func (f *functions) InvokeEvent(_ context.Context, reference string, payload []byte) error {
	if reference != function {
		return errors.New("no such function")
	}
	batch, err := logsubscription.Decode(payload)
	if err != nil {
		f.t.Error(err)
	}
	for _, l := range batch.Lines {
		f.sent = append(f.sent, fmt.Sprintf("%s %s %s %d %s", batch.LogGroup, batch.Stream, l.ID[50:], l.At.UnixMilli(), l.Message))
	}
	return nil
}

func code(err error) string {
	var e *awsproto.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestMatchingLinesAreSent(t *testing.T) {
	t.Parallel()
	f := &functions{t: t}
	s := logs.New(logs.Config{Functions: f, Logger: slog.New(slog.DiscardHandler)})
	for _, c := range []struct{ action, body, want string }{
		{"PutLogEvents", `{"logGroupName":"/g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"m"}]}`, "ResourceNotFoundException"},
		{"CreateLogGroup", `{"logGroupName":"/g"}`, ""},
		{"CreateLogGroup", `{"logGroupName":"/g"}`, "ResourceAlreadyExistsException"},
		{"CreateLogGroup", `{"logGroupName":"a b"}`, "InvalidParameterException"},
		{"CreateLogStream", `{"logGroupName":"/h","logStreamName":"s"}`, "ResourceNotFoundException"},
		{"CreateLogStream", `{"logGroupName":"/g","logStreamName":"s"}`, ""},
		{"CreateLogStream", `{"logGroupName":"/g","logStreamName":"a:b"}`, "InvalidParameterException"},
		{"PutSubscriptionFilter", `{"logGroupName":"/g","filterName":"f","destinationArn":"` + function + `"}`, "InvalidParameterException"},
		{"PutSubscriptionFilter", `{"logGroupName":"/g","filterName":"f","filterPattern":"{ $.x = 1 }","destinationArn":"` + function + `"}`, "InvalidParameterException"},
		{"PutSubscriptionFilter", `{"logGroupName":"/g","filterName":"f","filterPattern":"\"not permitted\" FATAL","destinationArn":"` + function + `"}`, ""},
		{"PutSubscriptionFilter", `{"logGroupName":"/g","filterName":"g","filterPattern":"","destinationArn":"` + function + `x"}`, ""},
		{"PutSubscriptionFilter", `{"logGroupName":"/g","filterName":"h","filterPattern":"","destinationArn":"` + function + `"}`, "LimitExceededException"},
		{"PutLogEvents", `{"logGroupName":"/g","logStreamName":"t","logEvents":[{"timestamp":1,"message":"m"}]}`, "ResourceNotFoundException"},
		{"PutLogEvents", `{"logGroupName":"/g","logStreamName":"s","logEvents":[]}`, "InvalidParameterException"},
		{"PutLogEvents", `{"logGroupName":"/g","logStreamName":"s","logEvents":[{"timestamp":2,"message":"m"},{"timestamp":1,"message":"m"}]}`, "InvalidParameterException"},
		{"PutLogEvents", `{"logGroupName":"/g","logStreamName":"s","logEvents":[{"timestamp":5,"message":"FATAL: is not permitted"},{"timestamp":6,"message":"FATAL: other"},{"timestamp":7,"message":"not permitted"}]}`, ""},
		{"GetLogEvents", `{}`, "UnknownOperationException"},
	} {
		if _, err := s.Call(t.Context(), c.action, []byte(c.body)); (err != nil || c.want != "") && code(err) != c.want {
			t.Errorf("%s %s: %v, want %q", c.action, c.body, err, c.want)
		}
	}
	if len(f.sent) != 1 || !strings.HasPrefix(f.sent[0], "/g s ") || !strings.HasSuffix(f.sent[0], " 5 FATAL: is not permitted") {
		t.Errorf("sent %q", f.sent)
	}
}
