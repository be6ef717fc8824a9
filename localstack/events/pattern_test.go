package events_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/events"
	"github.com/keyturn/keyturn/localstack/host"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	const detail = `{"eventName":"RotationFailed","count":7,"list":["a","b"],"flag":true,"nothing":null,"address":"10.1.2.3",
		"additionalEventData":{"SecretId":"arn:aws:secretsmanager:us-east-1:0:secret:app-Ab"},"items":[{"n":1},{"n":2}]}`
	tests := []struct {
		name, pattern string
		want          bool
	}{
		{"source", `{"source":["aws.secretsmanager"]}`, true},
		{"other source", `{"source":["aws.kms"]}`, false},
		{"one of several", `{"detail":{"eventName":["RotationSucceeded","RotationFailed"]}}`, true},
		{"all fields", `{"source":["aws.secretsmanager"],"detail":{"eventName":["RotationStarted"]}}`, false},
		{"parts of a wildcard in order", `{"detail":{"eventName":[{"wildcard":"*Failed*Rot*"}]}}`, false},
		{"a part is used once", `{"detail":{"eventName":[{"wildcard":"*on*on*"}]}}`, false},
		{"up to and with", `{"detail":{"count":[{"numeric":[">=",7,"<=",7]}]}}`, true},
		{"a missing object has nothing", `{"detail":{"none":{"x":[{"exists":false}]}}}`, true},
		{"a missing object hasn't it", `{"detail":{"none":{"x":[{"exists":true}]}}}`, false},
		{"a field that is there isn't missing", `{"detail":{"flag":[{"exists":false}]}}`, false},
		{"nested prefix", `{"detail":{"additionalEventData":{"SecretId":[{"prefix":"arn:aws:secretsmanager:"}]}}}`, true},
		{"prefix of something else", `{"detail":{"eventName":[{"prefix":"Test"}]}}`, false},
		{"suffix", `{"detail":{"eventName":[{"suffix":"Failed"}]}}`, true},
		{"ignore case", `{"detail":{"eventName":[{"equals-ignore-case":"rotationfailed"}]}}`, true},
		{"wildcard", `{"detail":{"additionalEventData":{"SecretId":[{"wildcard":"arn:*:secret:app-*"}]}}}`, true},
		{"wildcard that doesn't fit", `{"detail":{"eventName":[{"wildcard":"Rot*on"}]}}`, false},
		{"anything but", `{"detail":{"eventName":[{"anything-but":["RotationStarted"]}]}}`, true},
		{"anything but this", `{"detail":{"eventName":[{"anything-but":"RotationFailed"}]}}`, false},
		{"anything but a prefix", `{"detail":{"eventName":[{"anything-but":{"prefix":"Rotation"}}]}}`, false},
		{"anything but, on a missing field", `{"detail":{"missing":[{"anything-but":"x"}]}}`, false},
		{"anything but another prefix", `{"detail":{"eventName":[{"anything-but":{"prefix":["Test","Start"]}}]}}`, true},
		{"anything but one of these prefixes", `{"detail":{"eventName":[{"anything-but":{"prefix":["Test","Rot"]}}]}}`, false},
		{"anything but a suffix", `{"detail":{"eventName":[{"anything-but":{"suffix":"Failed"}}]}}`, false},
		{"anything but in any case", `{"detail":{"eventName":[{"anything-but":{"equals-ignore-case":["ROTATIONFAILED"]}}]}}`, false},
		{"anything but a wildcard", `{"detail":{"eventName":[{"anything-but":{"wildcard":"Rot*ed"}}]}}`, false},
		{"anything but a number", `{"detail":{"count":[{"anything-but":[6,8]}]}}`, true},
		{"prefix in any case", `{"detail":{"eventName":[{"prefix":{"equals-ignore-case":"ROT"}}]}}`, true},
		{"suffix in any case", `{"detail":{"eventName":[{"suffix":{"equals-ignore-case":"FAILED"}}]}}`, true},
		{"suffix in another case", `{"detail":{"eventName":[{"suffix":"FAILED"}]}}`, false},
		{"a star that stands for itself", `{"detail":{"eventName":[{"wildcard":"Rotation\\*"}]}}`, false},
		{"an address", `{"detail":{"address":[{"cidr":"10.0.0.0/8"}]}}`, true},
		{"an address elsewhere", `{"detail":{"address":[{"cidr":"192.168.0.0/16"}]}}`, false},
		{"exists", `{"detail":{"eventName":[{"exists":true}]}}`, true},
		{"doesn't exist", `{"detail":{"errorCode":[{"exists":false}]}}`, true},
		{"exists though it shouldn't", `{"detail":{"eventName":[{"exists":false}]}}`, false},
		{"missing parent", `{"detail":{"other":{"x":[{"exists":false}]}}}`, true},
		{"missing or a value", `{"detail":{"errorCode":[{"exists":false},"Throttled"]}}`, true},
		{"number", `{"detail":{"count":[7]}}`, true},
		{"number as text", `{"detail":{"count":["7"]}}`, false},
		{"numeric range", `{"detail":{"count":[{"numeric":[">",0,"<=",7]}]}}`, true},
		{"out of range", `{"detail":{"count":[{"numeric":["<",7]}]}}`, false},
		{"boolean", `{"detail":{"flag":[true]}}`, true},
		{"null", `{"detail":{"nothing":[null]}}`, true},
		{"element of an array", `{"detail":{"list":["b"]}}`, true},
		{"object of an array", `{"detail":{"items":{"n":[2]}}}`, true},
		{"or", `{"detail":{"$or":[{"eventName":["x"]},{"count":[7]}]}}`, true},
		{"neither", `{"detail":{"$or":[{"eventName":["x"]},{"count":[8]}]}}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan struct{}, 1)
			s := events.New(events.Config{Clock: clock.New(), Invoker: invoker(func(string, []byte) host.Invocation {
				got <- struct{}{}
				return host.Invocation{}
			})})
			call(t, s, "PutRule", map[string]any{"Name": "r", "EventPattern": tt.pattern})
			call(t, s, "PutTargets", map[string]any{"Rule": "r", "Targets": []any{map[string]any{"Id": "1", "Arn": functionARN}}})
			s.Publish(host.Event{Source: "aws.secretsmanager", DetailType: "T", Detail: json.RawMessage(detail)})
			s.Close() // waits for the delivery that a match has started
			if (len(got) == 1) != tt.want {
				t.Errorf("matched = %v, want %v", len(got) == 1, tt.want)
			}
		})
	}
}

func TestPatternsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := events.New(events.Config{Clock: clock.New()})
	t.Cleanup(s.Close)
	for _, pattern := range []string{
		`[]`, `{}`, `{"source":"aws.kms"}`, `{"source":[]}`, `{"detail":{}}`, `{"source":[{"prefix":1}]}`, `{"source":[{"unknown":"x"}]}`,
		`{"source":[{"prefix":"a","suffix":"b"}]}`, `{"source":[{"numeric":["~",1]}]}`, `{"source":[{"exists":"yes"}]}`,
		`{"$or":[{"source":["a"]}]}`, `{"source":[{"cidr":"10.0.0.0"}]}`, `{"source":[{"wildcard":"a**b"}]}`, `{"source":[{"wildcard":"a\\b"}]}`,
		`{"source":[{"anything-but":{"numeric":["=",1]}}]}`, `{"source":[{"anything-but":{"prefix":[]}}]}`, `{"source":[{"prefix":{"suffix":"x"}}]}`,
		`{"source":[{"anything-but":[{"prefix":"x"}]}]}`,
	} {
		body, _ := json.Marshal(map[string]any{"Name": "r", "EventPattern": pattern})
		_, err := s.Call(context.Background(), "PutRule", body)
		wantCode(t, err, "InvalidEventPatternException")
	}
}
