package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// look is one poll: so many minutes after the first, with what it saw.
type look struct {
	minute  int
	seen    rotation.Observation
	outcome rotation.Outcome
	fault   fault.Name
	missing string // part of the first Missing
}

var drainBase = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sighted(party string, minute int) []rotation.Evidence {
	return []rotation.Evidence{{Party: party, By: "pg_stat_activity", Proof: rotation.Behaved, At: drainBase.Add(time.Duration(minute) * time.Minute)}}
}

func TestJudgeDrain(t *testing.T) {
	t.Parallel()
	parties := []rotation.Party{{Name: "web"}, {Name: "nightly", Cadence: 20 * time.Minute}}
	base := rotation.Policy{
		Poll: time.Minute, QuietPolls: 3, Window: 5 * time.Minute, FunctionLimit: time.Minute,
		MaxOverlap: time.Hour, OnTimeout: rotation.Hold,
	}
	registered, terminate := base, base
	registered.Parties = parties
	terminate.OnTimeout = rotation.Terminate
	holder := rotation.Observation{Holders: []string{"web@10.0.0.1 on db:5432 (2 sessions)"}}
	blind := rotation.Observation{Unseen: []string{"replica: no answer"}}
	logged := rotation.Observation{Logged: true}
	both := rotation.Observation{Sighted: append(sighted("web", 1), sighted("nightly", 1)...)}

	for name, tc := range map[string]struct {
		policy rotation.Policy
		looks  []look
	}{
		"no parties and no log never becomes done": {base, []look{
			{0, rotation.Observation{}, rotation.Unknown, "", ""},
			{10, rotation.Observation{}, rotation.Unknown, "", ""},
			{59, rotation.Observation{}, rotation.Unknown, "", "no evidence of adoption"},
			{60, rotation.Observation{}, "", fault.DrainExpired, ""},
		}},
		"a complete login log is enough": {base, []look{
			{0, logged, rotation.Wait, "", "1 quiet looks"},
			{1, logged, rotation.Wait, "", "2 quiet looks"},
			{4, logged, rotation.Wait, "", "draining since"},
			{5, logged, rotation.Done, "", ""},
		}},
		"a gap in the log makes it worthless until quiet begins anew": {base, []look{
			{0, logged, rotation.Wait, "", ""},
			{6, rotation.Observation{}, rotation.Unknown, "", ""},
			{7, logged, rotation.Unknown, "", ""},
			{8, holder, rotation.Wait, "", "web@10.0.0.1"},
			{9, logged, rotation.Wait, "", ""},
			{10, logged, rotation.Wait, "", ""},
			{11, logged, rotation.Done, "", ""},
		}},
		"every party must be seen, and the slowest has time to come back": {registered, []look{
			{0, rotation.Observation{Sighted: sighted("web", 0)}, rotation.Wait, "", ""},
			{1, rotation.Observation{}, rotation.Wait, "", ""},
			{19, rotation.Observation{}, rotation.Wait, "", "quiet since"},
			{21, rotation.Observation{}, rotation.Wait, "", "nightly not seen"},
			{22, rotation.Observation{Sighted: sighted("nightly", 22)}, rotation.Done, "", ""},
		}},
		"a sighting from before the first look doesn't count": {registered, []look{
			{0, rotation.Observation{Sighted: append(sighted("web", -5), sighted("nightly", -5)...)}, rotation.Wait, "", ""},
			{30, rotation.Observation{}, rotation.Wait, "", "2 quiet looks"},
			{31, rotation.Observation{}, rotation.Wait, "", "web not seen"},
		}},
		"a holder starts the quiet time again": {registered, []look{
			{0, both, rotation.Wait, "", ""},
			{1, both, rotation.Wait, "", ""},
			{25, holder, rotation.Wait, "", "web@10.0.0.1"},
			{26, rotation.Observation{}, rotation.Wait, "", "1 quiet looks"},
			{27, rotation.Observation{}, rotation.Wait, "", "2 quiet looks"},
			{45, rotation.Observation{}, rotation.Wait, "", "quiet since"},
			{46, rotation.Observation{}, rotation.Done, "", ""},
		}},
		"one node that can't be seen makes it unknown": {registered, []look{
			{0, both, rotation.Wait, "", ""},
			{1, both, rotation.Wait, "", ""},
			{30, blind, rotation.Unknown, "", "replica: no answer"},
		}},
		"what nobody was given needs no adoption": {base, []look{
			{0, rotation.Observation{Unpresented: true}, rotation.Wait, "", ""},
			{0, rotation.Observation{Unpresented: true}, rotation.Wait, "", ""},
			{1, rotation.Observation{Unpresented: true}, rotation.Done, "", ""},
		}},
		"an emergency ends as soon as nobody is there": {base, []look{
			{0, rotation.Observation{Logged: true, Emergency: true}, rotation.Wait, "", ""},
			{0, rotation.Observation{Logged: true, Emergency: true}, rotation.Wait, "", ""},
			{0, rotation.Observation{Logged: true, Emergency: true}, rotation.Done, "", ""},
		}},
		"but for what is turned back, which a finish that runs on could promote": {base, []look{
			{0, rotation.Observation{Logged: true, Emergency: true, Back: true}, rotation.Wait, "", ""},
			{0, rotation.Observation{Logged: true, Emergency: true, Back: true}, rotation.Wait, "", ""},
			{0, rotation.Observation{Logged: true, Emergency: true, Back: true}, rotation.Wait, "", "the least is"},
			{1, rotation.Observation{Logged: true, Emergency: true, Back: true}, rotation.Done, "", ""},
		}},
		"terminate goes on at the deadline": {terminate, []look{
			{0, holder, rotation.Wait, "", ""},
			{60, holder, rotation.Done, "", ""},
		}},
		"terminate doesn't go on blindly": {terminate, []look{
			{0, holder, rotation.Wait, "", ""},
			{60, blind, "", fault.DrainExpired, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cursor := ""
			for i, l := range tc.looks {
				l.seen.Subject = "v1"
				res, err := rotation.JudgeDrain(tc.policy, cursor, drainBase.Add(time.Duration(l.minute)*time.Minute), l.seen)
				if l.fault != "" {
					if !fault.Is(err, l.fault) {
						t.Fatalf("look %d: got %v, want %s", i, err, l.fault)
					}
					return
				}
				if err != nil {
					t.Fatalf("look %d: %v", i, err)
				}
				if res.Outcome != l.outcome || !strings.Contains(strings.Join(res.Missing, "\n"), l.missing) {
					t.Fatalf("look %d at minute %d: %s %q, want %s with %q", i, l.minute, res.Outcome, res.Missing, l.outcome, l.missing)
				}
				cursor = res.Cursor
			}
		})
	}
}

func TestJudgeDrainStartsAfreshWithAForeignCursor(t *testing.T) {
	t.Parallel()
	p := rotation.Policy{QuietPolls: 1, Poll: time.Second}
	seen := rotation.Observation{Subject: "v1", Logged: true, Mark: "m1"}
	first, err := rotation.JudgeDrain(p, "", drainBase, rotation.Observation{Subject: "other", Mark: "m0"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := rotation.JudgeDrain(p, "", drainBase, seen)
	if err != nil {
		t.Fatal(err)
	}
	for name, cursor := range map[string]string{
		"another subject": first.Cursor, "no json": "{", "another step": `{"step":"set"}`,
		"from the future": strings.Replace(want.Cursor, "2026-03-01", "2027-03-01", 1),
	} {
		got, err := rotation.JudgeDrain(p, cursor, drainBase, seen)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-afresh +got):\n%s", name, diff)
		}
	}
	if m := rotation.DrainMark(want.Cursor, "v1"); m != "m1" {
		t.Errorf("the mark is %q", m)
	}
	if m := rotation.DrainMark(want.Cursor, "v2"); m != "" {
		t.Errorf("the mark of another subject is %q", m)
	}
}
