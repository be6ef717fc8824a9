package awsproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// input has the shapes that services' inputs have.
type input struct {
	SecretID      string              `json:"SecretId"`
	VersionStages []string            `json:",omitempty"`
	Rules         *struct{ Days int } `json:"RotationRules,omitempty"`
	Tags          []struct{ Key, Value string }
	Force         bool
}

type service struct{ calls int }

func (*service) TargetPrefix() string { return "secretsmanager" }

func (s *service) Call(_ context.Context, action string, body []byte) (any, error) {
	s.calls++
	var in input
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	if action == "Fail" {
		return nil, errors.New("not a service's error")
	}
	return in, nil
}

var bodies = []string{
	`{"SecretId":"a","VersionStages":["AWSPENDING"],"RotationRules":{"Days":30},"Tags":[{"Key":"k","Value":"v"}],"Force":true}`,
	``, ` `, `null`, `{}`, `{"secretid":"a"}`, `{"SecretId":"a","SecretId":"b"}`, `{"SecretId":"a"}{"SecretId":"b"}`,
	`{"RotationRules":{"days":1}}`, `{"SecretId":1}`, `{"Unmodelled":1}`, `[`, "{\"SecretId\":\"\xff\"}", `{"SecretId":"\ud800"}`, `{"Tags":[null]}`,
}

// FuzzDecode: what a service gets is exactly what the request says.
func FuzzDecode(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in input
		if err := awsproto.Decode(body, &in); err != nil {
			var e *awsproto.Error
			if !errors.As(err, &e) || e.Code != "SerializationException" {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return
		}
		var said map[string]json.RawMessage
		if err := json.Unmarshal(body, &said); err != nil {
			t.Fatalf("%q was taken: %v", body, err)
		}
		for name := range said {
			switch name {
			case "SecretId", "VersionStages", "RotationRules", "Tags", "Force":
			default:
				t.Errorf("%q: %s was passed over", body, name)
			}
		}
		written, _ := json.Marshal(in)
		var again input
		if err := awsproto.Decode(written, &again); err != nil {
			t.Errorf("%q was written %q: %v", body, written, err)
		}
	})
}

// FuzzServeJSON: any request is answered by JSON that an SDK reads.
func FuzzServeJSON(f *testing.F) {
	for _, b := range bodies {
		f.Add("secretsmanager.Call", "application/x-amz-json-1.1", []byte(b))
	}
	f.Add("secretsmanager.Fail", "", []byte(`{}`))
	f.Add("", "text/plain", []byte(`{}`))
	f.Add(strings.Repeat(".", 100), "application/x-amz-json-1.0", []byte(`{}`))
	f.Fuzz(func(t *testing.T, target, contentType string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", bytes.NewReader(body))
		r.Header.Set("X-Amz-Target", target)
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+target)
		r = awsproto.WithCaller(r)
		w := httptest.NewRecorder()
		s := &service{}
		awsproto.ServeJSON(w, r, s)
		if s.calls != 1 || !json.Valid(w.Body.Bytes()) || w.Code != 200 && w.Header().Get("X-Amzn-Errortype") == "" {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
		if arn := awsproto.CallerOf(r.Context()).ARN(); !strings.HasPrefix(arn, "arn:aws:iam::"+awsproto.Account+":") {
			t.Errorf("the caller is %q", arn)
		}
	})
}

// A body that was cut is no body: what is left of it could mean something else.
func TestABodyThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	body := `{"SecretId":"a"}` + strings.Repeat(" ", 8<<20) + `x`
	awsproto.ServeJSON(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body)), &service{})
	if w.Code != 413 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
