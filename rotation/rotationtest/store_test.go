package rotationtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

const arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:app"

func TestLabelRules(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := rotationtest.NewStore()
	s.Add(arn, "v1", "one")
	change := rotation.Change{Secret: arn, From: "v1", To: "v2"}

	if err := s.Put(ctx, change, rotation.NewValue("two")); !fault.Is(err, fault.InvalidStage) {
		t.Fatalf("a value without AWSPENDING was taken: %v", err)
	}
	must(t, s.Rotate(ctx, arn, "v2"))
	if _, err := s.Value(ctx, arn, "v2"); !fault.Is(err, fault.InvalidStage) {
		t.Fatalf("the empty version answers %v", err)
	}
	if err := s.Rotate(ctx, arn, "v3"); !fault.Is(err, fault.RotationInProgress) {
		t.Fatalf("a second rotation was started: %v", err)
	}
	must(t, s.Put(ctx, change, rotation.NewValue("two")))
	must(t, s.Put(ctx, change, rotation.NewValue("two")))
	if err := s.Put(ctx, change, rotation.NewValue("other")); !fault.Is(err, fault.Conflict) {
		t.Fatalf("another value under the same token: %v", err)
	}
	must(t, s.Attach(ctx, arn, rotation.Retiring, "v1"))
	must(t, s.Attach(ctx, arn, rotation.Retiring, "v1"))
	if err := s.Attach(ctx, arn, rotation.Retiring, "v2"); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a held label was given away: %v", err)
	}
	if err := s.Move(ctx, arn, rotation.Current, "v2", "v0"); !fault.Is(err, fault.Conflict) {
		t.Fatalf("compare-and-swap didn't compare: %v", err)
	}
	must(t, s.Move(ctx, arn, rotation.Current, "v2", "v1"))
	must(t, s.Move(ctx, arn, rotation.Current, "v2", "v1"))
	want := rotation.Versions{
		"v1": {rotation.Retiring, rotation.Previous},
		"v2": {rotation.Pending, rotation.Candidate("v2"), rotation.Live("v2"), rotation.Current},
	}
	if diff := cmp.Diff(want, s.Labels(arn)); diff != "" {
		t.Fatalf("labels (-want +got):\n%s", diff)
	}
	must(t, s.Move(ctx, arn, rotation.Current, "v1", "v2"))
	if got := s.Labels(arn).Holder(rotation.Previous); got != "v2" {
		t.Fatalf("AWSPREVIOUS is on %s after moving back", got)
	}
	must(t, s.Detach(ctx, arn, rotation.Disabled, "v1"))
	if err := s.Detach(ctx, arn, rotation.Current, "v1"); !fault.Is(err, fault.InvalidInput) {
		t.Fatalf("AWSCURRENT was removed: %v", err)
	}
}

func TestAnswersCanBeLost(t *testing.T) {
	t.Parallel()
	lost := errors.New("answer lost")
	s := rotationtest.NewStore()
	s.Add(arn, "v1", "one")
	s.FailAfter = func(c rotationtest.Call) error {
		if c.Op == "Attach" {
			return lost
		}
		return nil
	}
	if err := s.Attach(context.Background(), arn, rotation.Retiring, "v1"); !errors.Is(err, lost) {
		t.Fatalf("got %v", err)
	}
	if !s.Labels(arn).Has("v1", rotation.Retiring) {
		t.Fatal("the call had no effect")
	}
	calls := s.Calls()
	if len(calls) != 1 || calls[0].Op != "Attach" || !errors.Is(calls[0].Err, lost) {
		t.Fatalf("recorded %v", calls)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
