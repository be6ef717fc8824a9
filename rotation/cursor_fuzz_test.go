package rotation_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// FuzzJudgeDrain gives the judge cursors that it hasn't written. Whatever they
// claim, somebody who is seen or a source that isn't stops a drain.
func FuzzJudgeDrain(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, err := rotation.JudgeDrain(rotation.Policy{QuietPolls: 3, Window: time.Hour, Poll: time.Second}, "", now,
		rotation.Observation{Subject: "version a", Mark: "m"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first.Cursor, "version a", uint8(0), int16(3), false)
	f.Add(`{"step":"drain","subject":"s","started":"0001-01-01T00:00:01Z","quiet":"9999-12-31T23:59:59Z","polls":9223372036854775807,"logged":true}`, "s", uint8(1), int16(1), true)
	f.Add(`{"step":"drain","subject":"s","started":"2026-01-01T00:00:00Z","polls":-9,"sighted":{"web":"x","":""}}`, "s", uint8(2), int16(-1), false)
	f.Add(`[]`, "", uint8(3), int16(0), true)
	f.Add(`{"step":"drain","polls":1e400}`, "", uint8(0), int16(0), false)
	f.Fuzz(func(t *testing.T, cursor, subject string, shape uint8, quiet int16, terminate bool) {
		p := rotation.Policy{
			QuietPolls: int(quiet), Window: time.Minute, Poll: time.Second, MaxOverlap: time.Hour, OnTimeout: rotation.Hold,
			Parties: []rotation.Party{{Name: "web", Cadence: time.Minute}},
		}
		if terminate {
			p.OnTimeout = rotation.Terminate
		}
		seen := rotation.Observation{Subject: subject, Mark: "mark", Logged: shape&4 != 0}
		if shape&1 != 0 {
			seen.Holders = []string{"web@10.0.0.1"}
		}
		if shape&2 != 0 {
			seen.Unseen = []string{"node b"}
		}
		res, err := rotation.JudgeDrain(p, cursor, now, seen)
		if err != nil {
			return // DrainExpired: a person decides
		}
		switch res.Outcome {
		case rotation.Done:
			if len(seen.Unseen) > 0 || (len(seen.Holders) > 0 && !terminate) {
				t.Errorf("a drain is over that isn't: %+v", res)
			}
		case rotation.Wait, rotation.Unknown:
			if len(res.Missing) == 0 || res.After != p.Poll {
				t.Errorf("a wait for nobody: %+v", res)
			}
		default:
			t.Errorf("outcome %q", res.Outcome)
		}
		if mark := rotation.DrainMark(res.Cursor, subject); mark != "mark" && validText(subject) {
			t.Errorf("the mark became %q in %q", mark, res.Cursor)
		}
		if again, err := rotation.JudgeDrain(p, res.Cursor, now.Add(time.Second), seen); err == nil && again.Outcome == rotation.Done && len(seen.Unseen) > 0 {
			t.Errorf("the second look is %+v", again)
		}
	})
}

// validText reports a text that JSON carries unchanged.
func validText(text string) bool {
	raw, err := json.Marshal(text)
	var back string
	return err == nil && json.Unmarshal(raw, &back) == nil && back == text
}

// FuzzStepCursor gives a step cursors that no step has written: it starts
// afresh, keeps what belongs to other steps, and its own cursor reads back as it
// was written.
func FuzzStepCursor(f *testing.F) {
	f.Add(`{"drain":{"engine":"x","intent":true,"seen":"ab","since":"2026-01-01T00:00:00Z"},"adopt":{"engine":"y"}}`)
	f.Add(`{"drain":null}`)
	f.Add(`{"drain":{"since":"10000-01-01T00:00:00Z"}}`)
	f.Add(`{"drain":{"intent":"yes"}}`)
	f.Add(`{"":{}}`)
	f.Add(`[1]`)
	f.Add(`{"drain":{"engine":"\ud800"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		once := rotation.RewriteCursor(rotation.StepDrain, text)
		twice := rotation.RewriteCursor(rotation.StepDrain, once)
		if once != twice {
			t.Errorf("%q was written %q and then %q", text, once, twice)
		}
		if len(once) > 6*len(text)+200 {
			t.Errorf("a cursor of %d bytes became one of %d", len(text), len(once))
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &before) != nil || json.Unmarshal([]byte(once), &after) != nil {
			return
		}
		for step := range before {
			if _, kept := after[step]; !kept && validText(step) {
				t.Errorf("the cursor of %q is lost in %q", step, once)
			}
		}
		if strings.Contains(once, "\n") {
			t.Errorf("the cursor has lines: %q", once)
		}
	})
}
