package rotation

import (
	"context"

	"github.com/keyturn/keyturn/audit"
)

// Acted records what a person does to a secret that is no step of any rotation:
// StepPause or StepResume. Such an act has an id, and a chain, of its own. It
// depends on the trail as little as a rollback does: whoever pauses is in haste.
func (r *Rotator) Acted(ctx context.Context, secret, id string, step Step, do func() (notes []string, err error)) error {
	p, err := r.Policies.Policy(secret)
	if err != nil {
		return err
	}
	entry := audit.Record{
		Time: r.Now().UTC(), SecretID: secret, RotationID: id, Engine: p.Kind, Step: string(step),
		Phase: audit.Intent, PolicyHash: p.Hash,
	}
	r.Journal.Note(ctx, entry)
	notes, err := do()
	entry.Time, entry.Phase, entry.Outcome, entry.Notes = r.Now().UTC(), audit.ResultPhase, told(err), notes
	r.Journal.Note(ctx, entry)
	return err
}
