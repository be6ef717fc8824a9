package rotation_test

import (
	"os"
	"strings"
	"testing"
)

// planted is a defect that the model has to find: a text of the product, what
// stands there instead, and what breaks.
type planted struct {
	name, file, is, becomes string
}

// plantedDefects leave out, one each, what a rotation rests on.
func plantedDefects() []planted {
	return []planted{
		{"a drain has no floor", "judge.go", "if now.Sub(c.Started) < floor {", "if false {"},
		{"a drain's floor leaves out what consumers have cached", "policy.go", "d = max(d, party.CacheAge, party.Cadence)", "d = max(d, party.Cadence)"},
		{"a drain's floor leaves out functions that run on", "policy.go", "d := max(p.Window, p.FunctionLimit)", "d := p.Window"},
		{"one quiet look is enough", "judge.go", "if c.Polls < p.QuietPolls {", "if false {"},
		{"adoption isn't looked for", "judge.go", "if _, ok := c.Sighted[party.Name]; !ok {", "if false {"},
		{"the lock of the drain isn't taken before promotion", "finish.go", "if err := r.Store.Attach(ctx, c.Secret, Retiring, c.From); err != nil {", "if err := error(nil); err != nil {"},
		{"a new version isn't marked as live before Set", "labels.go", "return []Label{Pending, Candidate(token), Live(token)}", "return []Label{Pending, Candidate(token)}"},
		{"LIVE comes off when a version is disabled", "tail.go", "\t\t\tres.After = hold(c)", "\t\t\tres.After, err = hold(c), r.unmark(ctx, t.scene, c.From, Live(c.From))"},
		{"nobody compares identities", "tail.go", "\t\tif id == goes {", "\t\tif id == goes && false {"},
		{"the labels aren't read again in the target's lock", "rotator.go", "\t\t\treturn supported(desc.Versions)", "\t\t\t_ = desc\n\t\t\treturn nil"},
		{"two runs may drive one tail", "ensure.go", "if run.Status == RunRunning {", "if run.Status == RunRunning && s.Direction == Head {"},
		{"a rollback doesn't outrank the run that it turns back", "rotator.go", "return 2*perDirection + perRollback*generation", "return generation"},
		{"a rejected version is promoted all the same", "head.go", "case v.Has(token, Rejected):\n\t\treturn false, fault.New", "case false:\n\t\treturn false, fault.New"},
		{"a rollback moves AWSCURRENT without enabling", "rollback.go", "res, err := s.engine.Enable(ctx, c)", "res, err := Result{Outcome: Done}, error(nil)"},
		{"finish doesn't prove the new login", "finish.go", "if err != nil || tested.Outcome != Done {\n\t\treturn tested, err", "if false {\n\t\treturn tested, err"},
		{"a version that is discarded counts as never presented", "labels.go", "return !v.Has(id, Current) && !v.Has(id, Previous) &&", "return true ||"},
		{"an emergency doesn't wait for a finish that runs on", "judge.go", "if seen.Emergency && (seen.Unpresented || seen.Back) {", "if false {"},
		{"a rollback that was taken back fences for ever", "tail.go", "c.Rank = rankAgain(t.req.Generation, back.Generation)", "_ = back"},
	}
}

// The list stays true: each text stands exactly once where it says.
func TestPlantedDefectsFit(t *testing.T) {
	t.Parallel()
	for _, d := range plantedDefects() {
		text, err := os.ReadFile(d.file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), d.is); n != 1 {
			t.Errorf("%s: %q stands %d times in %s", d.name, d.is, n, d.file)
		}
	}
}
