package metrics_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/metrics"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	at := time.UnixMilli(1_800_000_000_123)
	w := metrics.Writer{To: &out, Deployment: "turn"}
	if err := w.Write(at, metrics.Value{Metric: metrics.PhaseSeconds, Of: "drain", Value: 61.5}, metrics.Value{Metric: metrics.Findings}); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	want := []string{
		`{"_aws":{"Timestamp":1800000000123,"CloudWatchMetrics":[{"Namespace":"Keyturn","Dimensions":[["Deployment","Phase"]],"Metrics":[{"Name":"PhaseSeconds","Unit":"Seconds"}]}]},"Deployment":"turn","Phase":"drain","PhaseSeconds":61.5}`,
		`{"_aws":{"Timestamp":1800000000123,"CloudWatchMetrics":[{"Namespace":"Keyturn","Dimensions":[["Deployment"]],"Metrics":[{"Name":"Findings","Unit":"Count"}]}]},"Deployment":"turn","Findings":0}`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %s", len(lines), out.Bytes())
	}
	for i, line := range lines {
		var got, wanted any
		if err := errors.Join(json.Unmarshal(line, &got), json.Unmarshal([]byte(want[i]), &wanted)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestNobodyIsWrittenTo(t *testing.T) {
	t.Parallel()
	value := metrics.Value{Metric: metrics.Findings}
	for _, w := range []metrics.Writer{{}, {To: full{}}, {Deployment: "turn"}} {
		if err := w.Write(time.Now(), value); err != nil {
			t.Errorf("%+v: %v", w, err)
		}
	}
	if err := (metrics.Writer{To: full{}, Deployment: "turn"}).Write(time.Now(), value); err == nil {
		t.Error("what couldn't be written is passed over")
	}
}
