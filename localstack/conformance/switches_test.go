package conformance_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// switches are the fields of secretsmanager.Behaviour with their other setting;
// the zero value is the first one. Every field is here: see
// TestEverySwitchIsTried.
var switches = map[string]func(*secretsmanager.Behaviour){
	"KeepPending":      func(b *secretsmanager.Behaviour) { b.KeepPending = true },
	"Retries":          func(b *secretsmanager.Behaviour) { b.Retries = 3 },
	"RetryAfter":       func(b *secretsmanager.Behaviour) { b.Retries, b.RetryAfter = max(b.Retries, 1), 500*time.Millisecond },
	"EmptyTestVersion": func(b *secretsmanager.Behaviour) { b.EmptyTestVersion = true },
	"ReuseStranded":    func(b *secretsmanager.Behaviour) { b.ReuseStranded = true },
	"OldRateFires":     func(b *secretsmanager.Behaviour) { b.OldRateFires = true },
	"ReadLag":          func(b *secretsmanager.Behaviour) { b.ReadLag = 300 * time.Millisecond },
	"ListLag":          func(b *secretsmanager.Behaviour) { b.ListLag = 300 * time.Millisecond },
	"Throttle":         func(b *secretsmanager.Behaviour) { b.Throttle = every25th() },
	"NoQuotas":         func(b *secretsmanager.Behaviour) { b.NoQuotas = true },
}

// every25th refuses each 25th call.
func every25th() func(string) bool {
	var mu sync.Mutex
	n := 0
	return func(string) bool {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n%25 == 0
	}
}

func TestEverySwitchIsTried(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[secretsmanager.Behaviour]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if switches[name] == nil {
			t.Errorf("Behaviour.%s has no other setting here: add it to switches", name)
			continue
		}
		var b secretsmanager.Behaviour
		switches[name](&b)
		if reflect.ValueOf(b).Field(i).IsZero() {
			t.Errorf("switches sets another field than %s", name)
		}
	}
	if fields.NumField() != len(switches) {
		t.Errorf("%d switches for %d fields", len(switches), fields.NumField())
	}
}

// TestWholeRotationsUnderEverySwitch runs the life of a secret under the zero
// value, under each switch alone and under all of them, with both functions.
func TestWholeRotationsUnderEverySwitch(t *testing.T) {
	t.Parallel()
	all := func(b *secretsmanager.Behaviour) {
		for _, set := range switches {
			set(b)
		}
	}
	settings := map[string]func(*secretsmanager.Behaviour){"none": func(*secretsmanager.Behaviour) {}, "all": all}
	for name, set := range switches {
		settings[name] = set
	}
	for _, l := range languages {
		for name, set := range settings {
			t.Run(l.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				var b secretsmanager.Behaviour
				set(&b)
				live(t, l.live(t, b), b)
			})
		}
	}
}

// live is everything that a schedule, a person and failures do to a secret. All
// the time somebody reads AWSCURRENT and uses it.
func live(t *testing.T, r *rig, b secretsmanager.Behaviour) {
	t.Helper()
	stop := r.consume()
	defer stop()
	phase := func(name string) { t.Log("done: " + name) } // printed if something fails
	first := r.s.first

	// Switching on by a test alone changes nothing, whatever the function says.
	in := r.scheduled("rate(10 days)")
	in.RotateImmediately = aws.Bool(false)
	r.call(in)
	r.untilTested()
	if got := r.holder(current); got != first {
		t.Fatalf("the test of the function moved AWSCURRENT to %s", got)
	}

	phase("tested")
	// A rotation that nothing disturbs; under a lag it may need a second attempt.
	clean := r.scheduled("rate(10 days)")
	r.call(clean)
	r.through(*clean.ClientRequestToken, b)

	phase("rotated")
	// One that fails once, at a step that has already been prepared.
	r.invoker.fail("setSecret", 1)
	failing := r.scheduled("rate(10 days)")
	r.call(failing)
	r.through(*failing.ClientRequestToken, b)
	if n := r.count("setSecret", *failing.ClientRequestToken); n < 2 {
		t.Errorf("setSecret was called %d times", n)
	}

	phase("repeated")
	// One that fails for good, until the schedule comes upon what it left.
	r.invoker.fail("setSecret", 1000)
	r.invoker.slow(2 * b.ReadLag) // so that it isn't the lag that ends an attempt
	stranded := r.scheduled("rate(10 days)")
	r.call(stranded)
	r.await(t, "the last attempt to fail", func() bool { return r.exhausted(*stranded.ClientRequestToken, b) })
	r.invoker.fail("setSecret", 0)
	r.invoker.slow(0)
	phase("stranded")
	r.local.Clock.Advance(11 * 24 * time.Hour)
	r.await(t, "the scheduled rotation", func() bool {
		got := r.holder(current)
		if got == *failing.ClientRequestToken {
			if b.ReuseStranded || r.holder(pending) != *stranded.ClientRequestToken {
				r.again(b)
			}
			return false
		}
		return !b.ReuseStranded || got == *stranded.ClientRequestToken
	})
	if reused := r.holder(current) == *stranded.ClientRequestToken; reused != b.ReuseStranded {
		t.Errorf("the schedule reused the stranded version: %v", reused)
	}
	r.rest(b)

	phase("scheduled")
	// Another schedule; the date of the old one may still fire. The clock stands
	// while anything is under way: nothing falls due that isn't looked at.
	before := r.holder(current)
	slower := r.scheduled("rate(30 days)")
	slower.RotateImmediately = aws.Bool(false)
	r.call(slower)
	r.untilTested()
	for r.holder(current) == before {
		r.local.Clock.Advance(5 * 24 * time.Hour)
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			r.watchdog()
		}
		r.rest(b)
	}
	// A watchdog that looks while a version is tested asks for it: then it is
	// current before the clock has moved, and its tail is still under way.
	r.rest(b)
	phase("rescheduled")
	stop()
	r.alone()
}

// scheduled is a RotateSecret with a schedule.
func (r *rig) scheduled(expression string) *sm.RotateSecretInput {
	in := r.s.rotation(r.arn)
	in.RotationRules = &smtypes.RotationRulesType{ScheduleExpression: &expression}
	return in
}

// call starts a rotation; the labels may be older than they look, and then the
// one before is still in progress.
func (r *rig) call(in *sm.RotateSecretInput) {
	r.t.Helper()
	r.await(r.t, "RotateSecret to be accepted", func() bool {
		_, err := r.secrets.RotateSecret(r.t.Context(), in)
		if err != nil && code(err) != "InvalidRequestException" {
			r.t.Fatal(err)
		}
		return err == nil
	})
}

// through waits for a rotation. When Secrets Manager has given it up, a person
// asks for it again.
func (r *rig) through(version string, b secretsmanager.Behaviour) {
	r.t.Helper()
	r.await(r.t, "version "+version+" to be current", func() bool {
		r.again(b)
		return r.holder(current) == version
	})
	r.rest(b)
}

// rest waits until AWSPENDING is gone, or on AWSCURRENT's version, and what was
// replaced is retired. On a busy machine a schedule's rotation too may come to
// its last attempt, and is asked for again.
func (r *rig) rest(b secretsmanager.Behaviour) {
	r.t.Helper()
	r.await(r.t, "rest", func() bool {
		r.again(b)
		labels := r.s.labels()
		return (labels[pending] == "" || labels[pending] == labels[current]) && r.retired()
	})
}

// exhausted reports that Secrets Manager has tried to rotate to a version as
// often as it does by itself.
func (r *rig) exhausted(version string, b secretsmanager.Behaviour) bool {
	return strings.Contains(r.logs.text(), fmt.Sprintf("version=%s attempt=%d ", version, b.Retries+1))
}

// again lets the watchdog look, and asks for the rotation that has left
// AWSPENDING behind when Secrets Manager doesn't repeat it any more.
func (r *rig) again(b secretsmanager.Behaviour) {
	r.t.Helper()
	r.watchdog()
	if time.Since(r.asked) < time.Second {
		return
	}
	r.asked = time.Now()
	held := r.holder(pending)
	if held == "" || held == r.holder(current) || b.ReadLag == 0 && !r.exhausted(held, b) {
		return
	}
	in := r.s.rotation(r.arn)
	in.RotationLambdaARN, in.RotationRules, in.ClientRequestToken = nil, nil, &held
	if _, err := r.secrets.RotateSecret(r.t.Context(), in); err != nil && code(err) != "InvalidRequestException" {
		r.t.Errorf("asking again: %v", err)
	}
}

func (r *rig) holder(label string) string {
	r.t.Helper()
	return r.s.labels()[label]
}

// untilTested waits until the version of a test is taken away. It isn't asked
// for again: that would rotate to it.
func (r *rig) untilTested() {
	r.t.Helper()
	r.await(r.t, "AWSPENDING to be taken off", func() bool {
		r.watchdog()
		labels := r.s.labels()
		return labels[pending] == "" || labels[pending] == labels[current]
	})
}

// count is how often a step was called for a version.
func (r *rig) count(step, version string) (n int) {
	for _, e := range r.invoker.events() {
		if e.Step == step && e.Version == version {
			n++
		}
	}
	return n
}

// consume reads AWSCURRENT and uses it, over and over, until it is stopped: at
// no time may what was read not work.
func (r *rig) consume() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		uses := 0
		for ctx.Err() == nil {
			out, err := r.secrets.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &r.s.arn})
			if err == nil {
				err = r.works(ctx, aws.ToString(out.SecretString))
				uses++
				if err != nil && ctx.Err() == nil {
					r.t.Errorf("what a consumer has just read doesn't work: version %s with %v: %v",
						aws.ToString(out.VersionId), slices.Sorted(slices.Values(out.VersionStages)), err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if uses == 0 {
			r.t.Error("nothing was read")
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
}
