package eventbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/eventbus"
	"github.com/keyturn/keyturn/rotation"
)

// bus is EventBridge's PutEvents: ten entries at most, each answered.
type bus struct {
	t      *testing.T
	got    []types.PutEventsRequestEntry
	refuse string // the secret whose entries are refused
	err    error
}

func (b *bus) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if n := len(in.Entries); n < 1 || n > 10 {
		b.t.Errorf("%d entries in one request", n)
	}
	if b.err != nil {
		return nil, b.err
	}
	out := &eventbridge.PutEventsOutput{}
	for _, e := range in.Entries {
		answer := types.PutEventsResultEntry{EventId: aws.String("1")}
		if e.Resources[0] == b.refuse {
			answer = types.PutEventsResultEntry{ErrorCode: aws.String("ThrottlingException"), ErrorMessage: aws.String("slower")}
			out.FailedEntryCount++
		}
		out.Entries = append(out.Entries, answer)
		b.got = append(b.got, e)
	}
	return out, nil
}

func TestEachGoesAsOneEvent(t *testing.T) {
	t.Parallel()
	api := &bus{t: t}
	b := eventbus.Bus{API: api}
	var findings []rotation.Finding
	for i := range 23 {
		findings = append(findings, rotation.Finding{Name: rotation.RunStuck, Secret: fmt.Sprint("arn:", i), Saw: "s", Do: "d"})
	}
	if err := b.Findings(t.Context(), findings); err != nil || len(api.got) != 23 {
		t.Fatalf("%d events, %v", len(api.got), err)
	}
	var f rotation.Finding
	last := api.got[22]
	if err := json.Unmarshal([]byte(*last.Detail), &f); err != nil || f != findings[22] || *last.Source != "keyturn" || *last.DetailType != "Keyturn Finding" || last.Resources[0] != "arn:22" {
		t.Errorf("%+v, %v", last, err)
	}
	if err := b.Records(t.Context(), []audit.Record{{SecretID: "arn:r", Step: "drain", Seq: 7}}); err != nil {
		t.Fatal(err)
	}
	var r audit.Record
	if err := json.Unmarshal([]byte(*api.got[23].Detail), &r); err != nil || r.Seq != 7 || *api.got[23].DetailType != "Keyturn Audit Record" {
		t.Errorf("%+v, %v", api.got[23], err)
	}
	if err := b.Findings(t.Context(), nil); err != nil || len(api.got) != 24 {
		t.Errorf("nothing to tell: %v", err)
	}
}

func TestWhatIsRefusedIsAnError(t *testing.T) {
	t.Parallel()
	one := []rotation.Finding{{Secret: "arn:a"}}
	if err := (&eventbus.Bus{API: &bus{t: t, refuse: "arn:a"}}).Findings(t.Context(), one); err == nil {
		t.Error("a refused entry is passed over")
	}
	if err := (&eventbus.Bus{API: &bus{t: t, err: errors.New("down")}}).Findings(t.Context(), one); err == nil {
		t.Error("a failed request is passed over")
	}
}
