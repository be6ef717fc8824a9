package logsubscription_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/logsubscription"
)

func event(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"awslogs":{"data":%q}}`, base64.StdEncoding.EncodeToString(packed.Bytes()))
}

const data = `{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/rds/instance/orders/postgresql","logStream":"orders.0",
"subscriptionFilters":["f"],"logEvents":[{"id":"3657","timestamp":1795471201000,"message":"a line\n","extractedFields":{}}],"policyLevel":"x"}`

func TestDecode(t *testing.T) {
	t.Parallel()
	got, err := logsubscription.Decode(event(t, data))
	want := logsubscription.Batch{
		Owner: "111122223333", LogGroup: "/aws/rds/instance/orders/postgresql", Stream: "orders.0",
		Lines: []logsubscription.Line{{ID: "3657", At: time.UnixMilli(1795471201000).UTC(), Message: "a line\n"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	control := event(t, `{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],`+
		`"logEvents":[{"id":"","timestamp":1795471201000,"message":"CWL CONTROL MESSAGE: Checking health of destination Kinesis stream."}]}`)
	if got, err := logsubscription.Decode(control); err != nil || !got.Control || len(got.Lines) > 0 {
		t.Errorf("a control message: %+v %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	packed := string(event(t, data))
	for name, bad := range map[string][]byte{
		"nothing":       []byte(""),
		"no data":       []byte(`{"awslogs":{}}`),
		"another event": []byte(`{"Records":[]}`),
		"more fields":   []byte(`{"awslogs":{"data":"x"},"y":1}`),
		"no base64":     []byte(`{"awslogs":{"data":"???"}}`),
		"no gzip":       []byte(`{"awslogs":{"data":"aGVsbG8="}}`),
		"cut short":     []byte(packed[:len(packed)-40] + `"}}`),
		"a bomb":        event(t, strings.Repeat(" ", 17<<20)),
		"no JSON":       event(t, "hello"),
		"another type":  event(t, strings.Replace(data, "DATA_MESSAGE", "OTHER", 1)),
		"no group":      event(t, strings.Replace(data, "/aws/rds/instance/orders/postgresql", "", 1)),
		"no lines":      event(t, `{"messageType":"DATA_MESSAGE","logGroup":"g","logEvents":[]}`),
		"no id":         event(t, strings.Replace(data, "3657", "", 1)),
		"no time":       event(t, strings.Replace(data, "1795471201000", "0", 1)),
	} {
		if got, err := logsubscription.Decode(bad); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzDecode: what is read is complete, and is what was packed.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(data), true)
	f.Add([]byte(`{"awslogs":{"data":"aGVsbG8="}}`), false)
	f.Fuzz(func(t *testing.T, text []byte, pack bool) {
		raw := text
		if pack {
			raw = event(t, string(text))
		}
		b, err := logsubscription.Decode(raw)
		if err != nil || b.Control {
			return
		}
		if b.LogGroup == "" || len(b.Lines) == 0 {
			t.Errorf("an incomplete batch: %+v", b)
		}
		for _, l := range b.Lines {
			if l.ID == "" || l.At.IsZero() {
				t.Errorf("an incomplete line: %+v", l)
			}
			if quoted, err := json.Marshal(l.Message); err != nil || pack && len(quoted) == 0 {
				t.Errorf("%q: %v", l.Message, err)
			}
		}
	})
}
