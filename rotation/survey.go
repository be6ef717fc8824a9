package rotation

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Seen is what can be known of one managed secret by reading labels and runs.
type Seen struct {
	Secret      string // as the policy lists it
	Description Description
	Policy      Policy
	Situation   Situation
	Run         Run       // the last of those that drive what the labels ask for
	Since       time.Time // when those began; zero: there is none
	Findings    []Finding
	Err         error // what couldn't be read
}

// See looks at one secret, which may be named as the policy lists it or by the
// name that the store knows. It changes nothing.
func (r *Rotator) See(ctx context.Context, secret string) Seen {
	seen := Seen{Secret: secret}
	desc, err := r.Store.Describe(ctx, secret)
	if fault.Is(err, fault.InvalidInput) {
		seen.Findings = []Finding{missingSecret(secret, err)}
		return seen
	}
	if err != nil {
		seen.Err = fault.Wrap(fault.Unavailable, err, "describing %s", secret)
		return seen
	}
	return r.saw(ctx, secret, desc)
}

// saw draws from a description what follows from it.
func (r *Rotator) saw(ctx context.Context, secret string, desc Description) Seen {
	seen := Seen{Secret: secret, Description: desc}
	if seen.Policy, seen.Err = r.Policies.Policy(desc.ARN); seen.Err != nil {
		return seen
	}
	l := look{p: seen.Policy, d: desc, s: Read(desc.Versions, seen.Policy.Driver), now: r.Now()}
	seen.Err = r.lookUp(ctx, &l)
	seen.Situation, seen.Run, seen.Since, seen.Findings = l.s, l.run, l.since, l.findings()
	return seen
}

// SeeAll looks at every managed secret, in the order of the policy. What a page of
// the store's list shows as stable is taken from there, and may be as old as the
// page is; everything else is described afresh. It changes nothing.
func (r *Rotator) SeeAll(ctx context.Context) []Seen {
	secrets := r.Policies.Secrets()
	shown := r.described(ctx, secrets)
	all := make([]Seen, len(secrets))
	var looking sync.WaitGroup
	free := make(chan struct{}, together)
	for i, secret := range secrets {
		if d, ok := shown[secret]; ok && r.shows(d) == calm {
			all[i] = r.saw(ctx, secret, d)
			continue
		}
		looking.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			all[i] = r.See(ctx, secret)
		})
	}
	looking.Wait()
	return all
}

// described is what the store's list shows of the managed secrets; nothing where
// it can't be read, because each is described by itself then.
func (r *Rotator) described(ctx context.Context, secrets []string) map[string]Description {
	list, ok := r.Store.(Lister)
	if !ok {
		return nil
	}
	shown := make(map[string]Description, len(secrets))
	ours := make(map[string]bool, len(secrets))
	for _, secret := range secrets {
		ours[secret] = true
	}
	pages := 0
	err := list.List(ctx, func(page []Description) bool {
		pages++
		for _, d := range page {
			for _, secret := range []string{d.ARN, d.Name} {
				if ours[secret] {
					shown[secret] = d
				}
			}
		}
		return pages < len(secrets)-len(shown)
	})
	if err != nil {
		r.Log.WarnContext(ctx, "listing the secrets; those that aren't shown are described one by one", "pages", pages, "error", err)
	}
	return shown
}
