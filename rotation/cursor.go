package rotation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"
)

// cursor is what a step remembers between two of its calls in one run. It
// travels through the execution's state; losing it costs time, never safety.
type cursor struct {
	step   Step
	others map[Step]json.RawMessage // of steps that aren't done; the next generation goes on with them

	Engine  string    `json:"engine,omitempty"`  // the engine's own
	Intent  bool      `json:"intent,omitempty"`  // the intent is recorded
	Seen    string    `json:"seen,omitempty"`    // digest of the last recorded answer
	Since   time.Time `json:"since,omitzero"`    // when the step began in this run
	Stays   string    `json:"stays,omitempty"`   // the version beside which the last look at a drain was
	Left    string    `json:"left,omitempty"`    // the version on which AWSPENDING is left over
	Started bool      `json:"started,omitempty"` // the store was asked to rotate
	Retried bool      `json:"retried,omitempty"` // and asked once more when both credentials worked
}

// readCursor starts afresh when there is none for this step, or it is unreadable.
func readCursor(step Step, text string) cursor {
	c := cursor{step: step}
	if err := json.Unmarshal([]byte(text), &c.others); err != nil || c.others == nil {
		c.others = map[Step]json.RawMessage{}
	}
	if err := json.Unmarshal(c.others[step], &c); err != nil {
		return cursor{step: step, others: c.others}
	}
	return c
}

// after writes the cursor for the run's state; a step that is over forgets.
func (c cursor) after(outcome Outcome) string {
	all := maps.Clone(c.others)
	delete(all, c.step)
	if outcome == Wait || outcome == Unknown {
		if mine, err := json.Marshal(c); err == nil {
			all[c.step] = mine
		}
	}
	text, err := json.Marshal(all)
	if err != nil || len(all) == 0 {
		return ""
	}
	return string(text)
}

// overtaken is the rollback that a forward run comes after. It lies in the cursor
// as if it were a step that is never over.
type overtaken struct {
	Generation int       `json:"generation"` // its last; 0: there was none
	Until      time.Time `json:"until"`      // till when one of its functions may act
}

const overtakenPlace Step = "overtaken"

func (o overtaken) cursor() string {
	if o.Generation == 0 {
		return ""
	}
	text, err := json.Marshal(map[Step]overtaken{overtakenPlace: o})
	if err != nil {
		return ""
	}
	return string(text)
}

func (c cursor) overtaken() overtaken {
	var o overtaken
	if json.Unmarshal(c.others[overtakenPlace], &o) != nil || o.Generation < 0 || o.Generation > perRollback {
		return overtaken{}
	}
	return o
}

// digest tells whether an answer is news, whatever its evidence's times are.
func digest(res Result) string {
	text, _ := json.Marshal(struct {
		O Outcome
		M []string
		N []string
	}{res.Outcome, res.Missing, res.Notes})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
