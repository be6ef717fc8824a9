package rotation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// cursor is what a step remembers between two of its calls in one run. It
// travels through the execution's state; losing it costs time, never safety.
type cursor struct {
	Step    Step      `json:"step"`
	Engine  string    `json:"engine,omitempty"`  // the engine's own
	Intent  bool      `json:"intent,omitempty"`  // the intent is recorded
	Seen    string    `json:"seen,omitempty"`    // digest of the last recorded answer
	Since   time.Time `json:"since,omitzero"`    // when the step began in this run
	Started bool      `json:"started,omitempty"` // the store was asked to rotate
}

// readCursor starts afresh when the cursor is another step's or unreadable.
func readCursor(step Step, text string) cursor {
	var c cursor
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.Step != step {
		return cursor{Step: step}
	}
	return c
}

func (c cursor) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return string(text)
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
