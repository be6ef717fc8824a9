// Package audit answers: who did what to which credential, and can the record
// have been tampered with?
package audit

import (
	"encoding/json"
	"time"
)

// Phase says on which side of the act a record stands.
type Phase string

// An intent is recorded before the act, a result after it.
const (
	Intent      Phase = "intent"
	ResultPhase Phase = "result"
)

// ActorType says what kind of actor caused a step.
type ActorType string

// The kinds of actors.
const (
	Controller ActorType = "controller"
	Schedule   ActorType = "schedule"
	Human      ActorType = "human"
)

// Record is one line of the audit trail. It names versions and logins, never a
// secret value. Seq, PrevHash and Hash are set by the Journal.
type Record struct {
	Time       time.Time       `json:"time"`
	SecretID   string          `json:"secret_id"`
	RotationID string          `json:"rotation_id"`
	Engine     string          `json:"engine"`
	Step       string          `json:"step"`
	From       string          `json:"from"`
	To         string          `json:"to"`
	Actor      string          `json:"actor"`
	ActorType  ActorType       `json:"actor_type"`
	Phase      Phase           `json:"phase"`
	Outcome    string          `json:"outcome,omitempty"` // of a result: done, wait, unknown, reopened or the fault's name
	Missing    []string        `json:"missing,omitempty"`
	Notes      []string        `json:"notes,omitempty"`
	Evidence   json.RawMessage `json:"evidence,omitempty"`
	PolicyHash string          `json:"policy_hash"`
	Seq        int             `json:"seq"`
	PrevHash   string          `json:"prev_hash"`
	Hash       string          `json:"hash"`
}
