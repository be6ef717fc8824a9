package rotation

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// together is how many secrets are looked at side by side: a look asks Step
// Functions a few times, which takes 15 such requests a second in most regions.
const together = 8

// Round is what the watchdog found of all managed secrets.
type Round struct {
	// Stable counts the secrets that a page shows with nothing to do and nothing
	// to tell; they had no call of their own.
	Stable int
	// Looked are the others, in the order of the policy.
	Looked []Looked
	// Unreached are those for which there was no time left, or that were not
	// asked about because a service had begun to refuse. The next round begins
	// elsewhere.
	Unreached []string
	// LastRotated is that of the secret with a schedule whose last rotation is
	// longest ago, as the list shows it; zero: none is shown.
	LastRotated time.Time
}

// Looked is one secret that was looked at by itself.
type Looked struct {
	Secret string // as the policy lists it
	Watched
	Err error
}

// WatchAll is Watch for every managed secret. What a page of the store's list
// shows as stable is passed over; everything else is described afresh before
// anything is done. It ends in time to tell what it found: before the context
// does. The options are asked for side by side.
func (r *Rotator) WatchAll(ctx context.Context, options func(secret string) EnsureOptions) Round {
	secrets := r.Policies.Secrets()
	shown, lastRotated := r.listed(ctx, secrets)
	var queue []string
	for _, secret := range secrets {
		if shown[secret] != calm {
			queue = append(queue, secret)
		}
	}
	round := Round{Stable: len(secrets) - len(queue), LastRotated: lastRotated}
	turn(queue, r.Now())
	slices.SortStableFunc(queue, func(a, b string) int { return rank(shown[a], options(a)) - rank(shown[b], options(b)) })
	found := r.lookAt(ctx, queue, options)
	for _, secret := range secrets {
		switch looked, ok := found[secret]; {
		case ok:
			round.Looked = append(round.Looked, looked)
		case shown[secret] != calm:
			round.Unreached = append(round.Unreached, secret)
		}
	}
	return round
}

// page is what the list shows of a secret.
type page int

const (
	unlisted page = iota
	calm          // nothing to do, nothing to tell
	wanting
	alarming // a stolen credential is alive
)

// listed reads pages as long as that is cheaper than asking for each secret that
// no page has shown. Without a list every secret is described.
func (r *Rotator) listed(ctx context.Context, secrets []string) (shown map[string]page, lastRotated time.Time) {
	shown = make(map[string]page, len(secrets))
	list, ok := r.Store.(Lister)
	if !ok {
		return shown, lastRotated
	}
	ours := make(map[string]bool, len(secrets))
	for _, secret := range secrets {
		ours[secret] = true
	}
	pages := 0
	err := list.List(ctx, func(all []Description) bool {
		pages++
		for _, d := range all {
			for _, secret := range []string{d.ARN, d.Name} {
				if !ours[secret] {
					continue
				}
				shown[secret] = max(shown[secret], r.shows(d))
				if earlier := lastRotated.IsZero() || d.LastRotated.Before(lastRotated); d.Every > 0 && !d.LastRotated.IsZero() && earlier {
					lastRotated = d.LastRotated
				}
			}
		}
		return pages < len(secrets)-len(shown)
	})
	if err != nil {
		r.Log.WarnContext(ctx, "listing the secrets; those that aren't shown are described one by one", "pages", pages, "error", err)
	}
	return shown, lastRotated
}

func (r *Rotator) shows(d Description) page {
	policy, err := r.Policies.Policy(d.ARN)
	if err != nil {
		return wanting
	}
	l := look{p: policy, d: d, s: Read(d.Versions, policy.Driver), now: r.Now()}
	switch {
	case d.Versions.anyStolen():
		return alarming
	case l.s.Need == NeedNothing && len(l.findings()) == 0:
		return calm
	}
	return wanting
}

// rank puts stolen credentials first, then secrets whose hourly retry is due in
// this round and no other.
func rank(shown page, o EnsureOptions) int {
	switch {
	case shown == alarming:
		return 0
	case o.Retry:
		return 1
	}
	return 2
}

// turn lets each round begin elsewhere, so that none is always left over when
// time is short. Nothing remembers the last round: the minute decides, by steps
// of the golden section, which spread evenly however many are reached.
func turn(queue []string, now time.Time) {
	if len(queue) == 0 {
		return
	}
	_, part := math.Modf(float64(now.Unix()/60) / math.Phi)
	begin := int(part * float64(len(queue)))
	slices.Reverse(queue[:begin])
	slices.Reverse(queue[begin:])
	slices.Reverse(queue)
}

// lookAt looks at one secret after the other, some side by side, until a fifth
// of the time is left or a service refuses.
func (r *Rotator) lookAt(ctx context.Context, queue []string, options func(string) EnsureOptions) map[string]Looked {
	until, bounded := ctx.Deadline()
	until = until.Add(-time.Until(until) / 5)
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		next  atomic.Int64
		stop  atomic.Bool
		found = make(map[string]Looked, len(queue))
	)
	for range min(together, len(queue)) {
		wg.Go(func() {
			for at := int(next.Add(1)) - 1; at < len(queue); at = int(next.Add(1)) - 1 {
				if stop.Load() || ctx.Err() != nil || (bounded && time.Now().After(until)) {
					return
				}
				secret := queue[at]
				seen, err := r.Watch(ctx, secret, options(secret))
				if fault.Is(err, fault.Throttled) {
					stop.Store(true)
				}
				mu.Lock()
				found[secret] = Looked{Secret: secret, Watched: seen, Err: err}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return found
}
