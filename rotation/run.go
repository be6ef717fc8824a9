package rotation

// Direction says which part of the sequence a run drives.
type Direction string

const (
	// Head: create, set, test, finish.
	Head Direction = "head"
	// Forward: the tail; presenters follow to the new one, the old one goes.
	Forward Direction = "forward"
	// Back: the same tail with old and new exchanged.
	Back Direction = "back"
)

// Input is the canonical input of an execution: identifiers only. Two callers
// that see the same labels make the same input.
type Input struct {
	Secret     string    `json:"secret"`
	Token      string    `json:"token"`
	Direction  Direction `json:"direction"`
	Driver     Driver    `json:"driver"`
	Run        string    `json:"run"` // the execution's name without its generation
	Generation int       `json:"generation"`
	Cursor     string    `json:"cursor"`
}
