package rotation

import (
	"context"

	"github.com/keyturn/keyturn/fault"
)

// Recreator is an Engine that can make a credential again which its target has
// lost, of what the store still has.
type Recreator interface {
	// Recreate makes acceptors take To again and proves it, as Test does. If they
	// take it already nothing is changed, and the Result is Untouched. It calls the
	// Change's Fence inside its target's lock, as the last thing before it acts. From
	// is the version that was current before; empty: there is none.
	Recreate(ctx context.Context, c Change) (Result, error)
}

// Recreate repairs a target that was restored from a snapshot: it makes the
// current credential again there. No label is changed. It is refused while a
// rotation is under way, whose runs repair what they need themselves.
func (r *Rotator) Recreate(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepRecreate, req)
	if err != nil {
		return Result{}, err
	}
	recreator, ok := s.engine.(Recreator)
	if !ok {
		return Result{}, fault.New(fault.InvalidInput, "a credential of kind %s can't be made again", s.policy.Kind).
			WithHint("rotate it: that makes another one")
	}
	current := s.desc.Versions.Holder(Current)
	if current == "" {
		return Result{}, fault.New(fault.InvalidStage, "%s has no AWSCURRENT version", s.desc.ARN).
			WithHint("store the working credential first (aws secretsmanager put-secret-value)")
	}
	quiet := func(v Versions) error {
		if v.Holder(Current) != current {
			return fault.New(fault.Superseded, "another version than %s is current now", current).WithHint("nothing was changed; call it again")
		}
		if Read(v, s.policy.Driver).Need != NeedNothing {
			return fault.New(fault.RotationInProgress, "a rotation of %s is under way", s.desc.ARN).
				WithHint("nothing was changed; keyturn status shows how far it has come; keyturn resume or keyturn rollback ends it")
		}
		return nil
	}
	if err := quiet(s.desc.Versions); err != nil {
		return Result{}, err
	}
	return r.act(ctx, s, s.change(r, s.desc.Versions.Holder(Previous), current, quiet), recreator.Recreate)
}
