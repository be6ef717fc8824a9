package rotation_test

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// slowClaim comes to a halt before AWSPENDING is claimed; meanwhile others work.
type slowClaim struct {
	*rotationtest.Store
	meanwhile func()
}

func (s *slowClaim) Attach(ctx context.Context, secret string, l rotation.Label, version string) error {
	if l == rotation.Pending && s.meanwhile != nil {
		others := s.meanwhile
		s.meanwhile = nil
		others()
	}
	return s.Store.Attach(ctx, secret, l, version)
}

// Found by the model: a create that hung put AWSPENDING back on a version that was
// current by then. Two writes by hand later that version looked like one that is
// being made, and the drain of a login that it shared ended as IdentityInUse for
// ever.
func TestACreateThatComesLateClaimsNothing(t *testing.T) {
	t.Parallel()
	const v4 = "44444444-4444-4444-8444-444444444444"
	tests := []struct {
		name      string
		meanwhile func(w *world)
		want      fault.Name
	}{
		{"current", func(*world) {}, ""},
		{"retired by what somebody stored", func(w *world) { w.putByHand(v3, "login-3") }, fault.Superseded},
		{"neither current nor previous", func(w *world) { w.putByHand(v3, "login-3"); w.putByHand(v4, "login-4") }, fault.Superseded},
		{"revoked", func(w *world) {
			w.must(w.tail(v2, rotation.Forward))
			w.must(w.rotate(v3))
			w.must(w.tail(v3, rotation.Forward))
		}, fault.Superseded},
		{"rolled back", func(w *world) {
			requestRollback(t, w, v2)
			w.must(w.tail(v2, rotation.Back))
		}, fault.Superseded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rotation.DriverMachine)
			var before string
			w.Store = &slowClaim{Store: w.store, meanwhile: func() {
				w.must(w.rotate(v2))
				tt.meanwhile(w)
				before = w.labels()
			}}
			res, err := w.Create(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
			if tt.want == "" && (err != nil || res.Outcome != rotation.Done) {
				t.Errorf("%s, %v", res.Outcome, err)
			}
			if tt.want != "" {
				wantFault(t, err, tt.want)
			}
			w.wantLabels(before)
		})
	}
}

// A finish that is about to promote has taken the candidate's label off already; a
// create that comes late then leaves it its AWSPENDING.
func TestACreateThatComesLateDisturbsNoPromotion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.Store = &slowClaim{Store: w.store, meanwhile: func() {
		w.store.Fail = func(c rotationtest.Call) error {
			if c.Op == "Move" && c.Label == rotation.Current {
				return fault.New(fault.Unavailable, "killed")
			}
			return nil
		}
		wantFault(t, w.rotate(v2), fault.Unavailable)
		w.store.Fail = nil
		w.wantLabels("1:CURRENT+LIVE+RETIRING 2:LIVE+PENDING")
	}}
	_, err := w.Create(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
	wantFault(t, err, fault.Superseded)
	w.must(w.rotate(v2))
	w.wantLabels("1:LIVE+PREVIOUS+RETIRING 2:CURRENT+LIVE")
}
