// Package webhook answers: has every instance of a consumer taken the new
// version, and if not, whose turn is it?
//
// An instance is one URL. GET tells which version it uses:
//
//	{"version": "<version id>", "done": true}
//
// "done" says that it uses this version and no other any more. An instance that
// is behind is told by POST to the same URL:
//
//	{"secret": "<ARN>", "version": "<version id>"}
//
// It answers 2xx once it has begun, and again when it is told again. Both are
// signed when the policy names a key: see [CheckSignature]. Instances
// are told in waves: the first is the canary, and each wave waits until the one
// before has confirmed.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

const (
	// lookers bounds the requests that are under way at once.
	lookers = 8
	// ahead is how many instances are looked at before their wave's turn, so that
	// small waves don't mean one request at a time.
	ahead = 2 * lookers
	// named bounds the instances that a Result names: it travels through an
	// execution's state.
	named = 10
	// again is the longest that a wait asks for between two looks at a wave.
	again = 5 * time.Second
)

// Config is what Presenters need; the zero value is enough for parties whose
// policy names no key.
type Config struct {
	// Keys reads the keys by which requests are signed, when a party names one.
	Keys Keys
	// Transport carries requests; nil means a new one that verifies TLS in full.
	Transport http.RoundTripper
	// Timeout bounds one request with its answer; 0 means 5 s.
	Timeout time.Duration
	// Patience is how long a call waits for a wave that it has told before it
	// answers "wait"; 0 means 2 s.
	Patience time.Duration
	// Now dates evidence and signatures; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger // takes progress; nil means no log
}

// Presenters makes the instances of a party take a version. It keeps nothing
// but the keys that it has read lately, and is safe for concurrent use.
type Presenters struct {
	keys     keyring
	client   *http.Client
	patience time.Duration
	now      func() time.Time
	log      *slog.Logger
}

// New returns presenters.
func New(c Config) *Presenters {
	p := &Presenters{patience: c.Patience, now: c.Now, log: c.Log}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if p.patience <= 0 {
		p.patience = 2 * time.Second
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.keys = keyring{source: c.Keys, now: p.now}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConns: 2 * lookers, MaxIdleConnsPerHost: lookers, IdleConnTimeout: 30 * time.Second,
		}
	}
	p.client = &http.Client{
		Transport: c.Transport, Timeout: c.Timeout,
		// A redirect would carry the order, and its signature, to somewhere
		// that the policy doesn't name.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p
}

// state is what is known of one instance.
type state int

const (
	unseen    state = iota // it gave no answer that says which version it uses
	behind                 // it uses another version, and isn't on its way
	following              // it was told, and isn't through
	confirmed
)

// instance is one URL of a party and what the last look saw.
type instance struct {
	url, name string
	state     state
	told      bool   // by this call
	why       string // unless it has confirmed: what a person should know
}

// Follow looks at the instances of a party wave by wave, tells those of the first
// wave that is behind to take version c.To, and goes on to the next wave only when
// every instance of this one has confirmed. It may be called at any time and any
// number of times: it looks first, and an instance that answers with c.To, done
// or not, isn't told again.
//
// Done has Evidence, Loaded, of each instance. Wait and Unknown name in Missing
// who hasn't confirmed; Unknown means that one of them couldn't be seen. An
// instance that is down or refuses is never an error; a key that the party names
// and that can't be had is one, and nothing is sent. A party without URLs is Done,
// with no evidence.
func (p *Presenters) Follow(ctx context.Context, c rotation.Change, party rotation.Party) (rotation.Result, error) {
	if c.Secret == "" || c.To == "" {
		return rotation.Result{}, fault.New(fault.InvalidInput, "party %s is to follow no version", party.Name)
	}
	all, err := instances(party)
	if err != nil {
		return rotation.Result{}, err
	}
	deadline := p.deadline(ctx, c.Policy)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if len(all) == 0 {
		return rotation.Result{Outcome: rotation.Done}, nil
	}
	key, err := p.keys.of(ctx, party)
	if err != nil {
		return rotation.Result{}, err
	}
	o := order{Presenters: p, Change: c, keyARN: party.FollowKey, key: key}
	// Looking may not use up the time for telling: an instance that hangs costs the
	// whole of its request's.
	looking, stop := context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)*3/4))
	defer stop()
	size, seen := max(party.Wave, 1), 0
	for start := 0; start < len(all); start += size {
		end := min(start+size, len(all))
		if end > seen {
			next := min(max(end, seen+ahead), len(all))
			each(mixed(all[seen:next]), func(i *instance) { o.look(looking, i) })
			seen = next
		}
		wave := all[start:end]
		if through(wave) {
			continue
		}
		if ctx.Err() != nil {
			break // the next call goes on here
		}
		p.log.InfoContext(ctx, "telling a wave to follow", "party", party.Name, "version", c.To, "first", start+1, "of", len(all))
		o.tell(ctx, wave)
		if !through(wave) {
			break
		}
	}
	for _, i := range all[seen:] {
		i.state, i.why = behind, "not asked yet; its wave's turn hasn't come"
	}
	return p.result(c, all), nil
}

// deadline is when nobody is asked or told any more, so that the answer still
// gets out: half of what the function has left.
func (p *Presenters) deadline(ctx context.Context, policy rotation.Policy) time.Time {
	now := time.Now()
	left := policy.FunctionLimit
	if left <= 0 {
		left = time.Minute
	}
	if d, ok := ctx.Deadline(); ok {
		left = min(left, d.Sub(now))
	}
	return now.Add(left / 2)
}

func instances(party rotation.Party) ([]*instance, error) {
	all := make([]*instance, 0, len(party.Follow))
	for n, url := range party.Follow {
		shown, err := show(url)
		if err != nil {
			return nil, fault.Wrap(fault.InvalidInput, err, "reading follow URL %d of party %s", n+1, party.Name)
		}
		all = append(all, &instance{url: url, name: fmt.Sprintf("%s %d at %s", party.Name, n+1, shown)})
	}
	return all, nil
}

// tell orders those of a wave that are behind to follow, and looks until the
// wave is through or patience ends.
func (o order) tell(ctx context.Context, wave []*instance) {
	each(wave, func(i *instance) {
		if i.state == behind {
			o.tellOne(ctx, i)
		}
	})
	until := time.Now().Add(o.patience)
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		each(wave, func(i *instance) {
			if i.state != following && i.state != unseen {
				return
			}
			if o.look(ctx, i); i.state == behind { // there was no time to see it before
				o.tellOne(ctx, i)
			}
		})
		left := time.Until(until)
		if through(wave) || left <= 0 || !moving(wave) || !sleep(ctx, min(pause, left)) {
			return
		}
	}
}

// through reports whether every instance has confirmed.
func through(wave []*instance) bool {
	for _, i := range wave {
		if i.state != confirmed {
			return false
		}
	}
	return true
}

// moving reports whether waiting a little can help: an instance that was told
// may well be restarting.
func moving(wave []*instance) bool {
	for _, i := range wave {
		if i.state == following || i.state == unseen && i.told {
			return true
		}
	}
	return false
}

// result sums up the last look.
func (p *Presenters) result(c rotation.Change, all []*instance) rotation.Result {
	res := rotation.Result{Outcome: rotation.Done}
	left := 0
	for _, i := range all {
		switch i.state {
		case confirmed:
			res.Evidence = append(res.Evidence, rotation.Evidence{
				Party: i.name, Digest: c.To, By: "its own answer to GET", Proof: rotation.Loaded, At: p.now().UTC(),
			})
			continue
		case unseen:
			res.Outcome = rotation.Unknown
		case behind, following:
			if res.Outcome != rotation.Unknown {
				res.Outcome = rotation.Wait
			}
		}
		if left++; left <= named {
			res.Missing = append(res.Missing, i.name+": "+i.why)
		}
	}
	if left > named {
		res.Missing = append(res.Missing, fmt.Sprintf("and %d more", left-named))
	}
	if left > 0 {
		res.After = again
		if c.Policy.Poll > 0 {
			res.After = min(again, c.Policy.Poll)
		}
	}
	return res
}

// mixed is in another order at each call, so that the same instances that hang
// don't keep the same others from being reached every time.
func mixed(all []*instance) []*instance {
	out := slices.Clone(all)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) //nolint:gosec // any order will do
	return out
}

// each does something with every instance, some at a time.
func each(all []*instance, do func(*instance)) {
	if len(all) == 1 {
		do(all[0])
		return
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, lookers)
	for _, i := range all {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wait.Wait()
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reason says why there was no answer, without the URL, whose query may hold a
// token, and without anything that the other side wrote.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "not asked to the end"
	}
	return "can't be reached"
}
