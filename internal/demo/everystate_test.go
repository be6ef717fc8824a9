package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/rotation"
)

// These are the states in which everything is killed, in the order in which one
// run after the other gets there. What ends a run dies after its own Wait state:
// it may have done its work before it dies, and then nobody comes there again.
var (
	headByMachine = []string{"Create", "CreateWait", "Set", "SetWait", "Test", "TestWait", "HandOver", "FinishWait", "Finish"}
	headByStore   = []string{"Create", "CreateWait", "HandOver"}
	aborts        = []string{"Abort", "AbortWait"}
	tail          = []string{"Adopt", "AdoptWait", "Drain", "DrainWait", "HandOver", "Disable", "DisableWait", "Hold", "RevokeWait", "Revoke"}
	rollback      = append([]string{"Rollback", "RollbackWait"}, tail...)
	emergencies   = []string{"Mark", "Replace", "ReplaceWait", "Bury", "BuryWait"}
	cuts          = []string{"Cut", "CutWait"}
)

// A state that is new, or gone, has to be here too.
func TestEveryStateIsKilledIn(t *testing.T) {
	for letter, walked := range map[string][]string{
		"h": slices.Concat(headByMachine, aborts), "f": tail, "b": rollback, "e": slices.Concat(emergencies, cuts),
	} {
		if want := slices.Sorted(maps.Keys(machineStates(letter))); !slices.Equal(slices.Sorted(slices.Values(walked)), want) {
			t.Errorf("direction %s: killed in %v, the definition has %v", letter, walked, want)
		}
	}
}

func targets(letter string, states ...string) (all []target) {
	for _, state := range states {
		all = append(all, target{letter, state})
	}
	return all
}

// Everything is killed in every Task and Wait state: the execution, and the
// process of the function that is at work there. Nobody but two watchdogs and an
// event, which always come at once, goes on.
func TestTheWatchdogsAloneEndWhatIsKilledInEveryState(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for _, l := range r.lanes {
		others.Go(func() { l.consume(ctx) })
	}
	others.Go(func() { r.watch(ctx) })
	t.Cleanup(func() { cancel(); others.Wait() })
	var walks sync.WaitGroup // not t.Parallel: lanes wait most of the time, however few processors there are
	for _, l := range r.lanes {
		walks.Go(func() {
			t.Run(l.name, func(t *testing.T) {
				lanes[l.name].walk(l, t)
				l.verify(t)
			})
		})
	}
	walks.Wait()
	t.Logf("%d functions were killed at work", r.dead.Load())
	if r.dead.Load() == 0 {
		t.Error("no function was killed at work")
	}
}

// watch calls two watchdogs and an event at once, each second.
func (r *rig) watch(ctx context.Context) {
	for turn := 0; pause(ctx, time.Second) == nil; turn++ {
		event := fmt.Sprintf(`{"detail":{"additionalEventData":{"SecretId":%q}}}`, r.lanes[turn%len(r.lanes)].arn)
		var calls sync.WaitGroup
		for _, payload := range []string{`{}`, `{}`, event} {
			calls.Go(func() {
				if err := r.invoke(ctx, "watchdog", []byte(payload)); err != nil {
					r.logs.line("test", err.Error())
				}
			})
		}
		calls.Wait()
	}
}

func (l *lane) versions(t *testing.T) rotation.Versions {
	t.Helper()
	d, err := l.rotator.Store.Describe(t.Context(), l.arn)
	if err != nil {
		t.Fatal(err)
	}
	return d.Versions
}

// until waits for a condition on the labels.
func (l *lane) until(t *testing.T, what string, holds func(rotation.Versions) bool) {
	t.Helper()
	deadline := time.Now().Add(6 * time.Minute)
	for !holds(l.versions(t)) {
		if time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("waiting until %s: labels %v, left to die in %v, executions %v", what, l.versions(t), l.left, l.runs(t))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// settles waits until everything that was asked for has died, and nothing is
// left to do.
func (l *lane) settles(t *testing.T) {
	t.Helper()
	l.until(t, "nothing is left to do", func(v rotation.Versions) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.left) == 0 && rotation.Read(v, l.driver).Need == rotation.NeedNothing && v.Holder(rotation.Retiring) == ""
	})
}

func (l *lane) dieIn(all ...target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = all
}

// head starts a rotation, and again when it died before anything was made: then
// the labels ask for nothing.
func (l *lane) head(t *testing.T) string {
	t.Helper()
	token := uuid.NewString()
	l.until(t, "a head has begun", func(v rotation.Versions) bool {
		if len(v[token]) > 0 {
			return true
		}
		if _, err := l.rotator.StartHead(t.Context(), l.arn, token); err != nil {
			t.Error(err)
		}
		return false
	})
	return token
}

func (l *lane) walkForth(t *testing.T) { l.walkTo(t, targets("f", tail...)) }

func (l *lane) walkTo(t *testing.T, all []target) {
	t.Helper()
	l.dieIn(all...)
	token := l.head(t)
	l.settles(t)
	if v := l.versions(t); !v.Has(token, rotation.Current) {
		t.Errorf("%s isn't current: %v", token, v)
	}
}

func (l *lane) walkHead(t *testing.T) {
	l.walkTo(t, targets("h", headByMachine...))
	for _, state := range aborts {
		l.dieIn(targets("h", state)...)
		l.head(t)
		l.settles(t)
	}
}

func (l *lane) walkBack(t *testing.T) {
	before := l.versions(t).Holder(rotation.Current)
	token := l.head(t)
	l.until(t, "it is current", current(token))
	l.dieIn(targets("b", rollback...)...)
	if _, err := l.rotator.RequestRollback(t.Context(), l.arn); err != nil {
		t.Fatal(err)
	}
	l.settles(t)
	if v := l.versions(t); !v.Has(before, rotation.Current) || !v.Has(token, rotation.Rejected) {
		t.Errorf("it isn't turned back: %v", v)
	}
}

func (l *lane) walkStore(t *testing.T) {
	for _, state := range append(headByStore, aborts...) {
		l.dieIn(targets("h", state)...)
		l.head(t)
		l.settles(t)
	}
}

func (l *lane) walkStolen(t *testing.T) { l.walkEmergencies(t, false, emergencies) }

func (l *lane) walkCut(t *testing.T) { l.walkEmergencies(t, true, cuts) }

// walkEmergencies declares the current credential stolen and kills the emergency
// in one state; then the watchdogs have to bury it.
func (l *lane) walkEmergencies(t *testing.T, cut bool, states []string) {
	for _, state := range states {
		stolen := l.versions(t).Holder(rotation.Current)
		value, err := l.rotator.Store.Value(t.Context(), l.arn, stolen)
		if err != nil {
			t.Fatal(err)
		}
		login := l.remember(value)
		l.mu.Lock()
		l.excused = cut
		l.mu.Unlock()
		l.dieIn(targets("e", state)...)
		l.emergency(t, cut)
		l.until(t, "it has died in "+state, func(rotation.Versions) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.left) == 0
		})
		began := time.Now()
		l.until(t, "the emergency is stopped", func(rotation.Versions) bool { return len(l.running(l, "e")) == 0 })
		if v := l.versions(t); state == "Mark" && v.Has(stolen, rotation.Current) && rotation.Read(v, l.driver).Need == rotation.NeedNothing {
			t.Log("it died before its first mark: the caller, who is told, calls again")
			l.emergency(t, cut)
			l.until(t, "its first mark", func(v rotation.Versions) bool {
				return !v.Has(stolen, rotation.Current) || rotation.Read(v, l.driver).Need != rotation.NeedNothing
			})
		}
		l.settles(t)
		if v := l.versions(t); v.Has(stolen, rotation.Current) || len(v[stolen]) > 1 { // AWSPREVIOUS
			t.Errorf("killed in %s: the stolen version is left: %v", state, v)
		}
		if class := l.refuses(t.Context(), login); class != "28" {
			t.Errorf("killed in %s: the stolen login still works: %q", state, class)
		}
		t.Logf("killed in %s: destroyed %s later", state, time.Since(began).Round(100*time.Millisecond))
		l.mu.Lock()
		l.excused = false
		l.mu.Unlock()
	}
}

func (l *lane) emergency(t *testing.T, cut bool) {
	t.Helper()
	token := uuid.NewString()
	input, err := json.Marshal(map[string]any{"purpose": "act", "secret": l.arn, "token": token, "cut": cut})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.sfn.StartExecution(t.Context(), &sfn.StartExecutionInput{
		StateMachineArn: &l.emergencyMachine, Name: aws.String("emergency-" + l.name + "-" + token), Input: aws.String(string(input)),
	}); err != nil {
		t.Fatal(err)
	}
}

// lifetime is when one generation of a run was going on.
type lifetime struct {
	arn, name, end string
	from, until    time.Time
}

// runs lists the lane's executions of the rotation.
func (l *lane) runs(t *testing.T) (all []lifetime) {
	t.Helper()
	pages := sfn.NewListExecutionsPaginator(l.sfn, &sfn.ListExecutionsInput{StateMachineArn: &l.machine})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Executions {
			if of, _ := l.where(*e.ExecutionArn); of == l {
				all = append(all, lifetime{*e.ExecutionArn, *e.Name, string(e.Status), *e.StartDate, aws.ToTime(e.StopDate)})
			}
		}
	}
	return all
}

// verify checks what must hold at the end of a lane, whatever was killed.
func (l *lane) verify(t *testing.T) {
	t.Helper()
	l.until(t, "every execution has ended", func(rotation.Versions) bool {
		return !slices.ContainsFunc(l.runs(t), func(x lifetime) bool { return x.end == "RUNNING" })
	})
	value, _, err := l.rotator.Store.Current(t.Context(), l.arn)
	if err != nil {
		t.Fatal(err)
	}
	alive := l.remember(value)
	if class := l.refuses(t.Context(), alive); class != "" {
		t.Errorf("the current login is refused: %s", class)
	}
	conn, err := l.cluster.Superuser(t.Context(), l.cluster.Primary, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var logins []string
	sql := "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE starts_with(rolname, $1) AND rolcanlogin"
	if err := conn.QueryRow(t.Context(), sql, "lane_"+l.name).Scan(&logins); err != nil || !slices.Equal(logins, []string{alive.Username}) {
		t.Errorf("logins %v, %v, want %s alone", logins, err, alive.Username)
	}
	l.oneRunAtATime(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refused) > 0 {
		t.Errorf("the consumer was refused %d times: %v", len(l.refused), l.refused[:min(5, len(l.refused))])
	}
	if found, err := l.rotator.Findings(t.Context(), l.arn); err != nil || len(found) > 0 {
		t.Errorf("findings %+v, %v", found, err)
	}
	for at, dead := range l.died {
		if !dead {
			t.Errorf("nothing died in %v", at)
		}
	}
}

// oneRunAtATime checks that two watchdogs and an event have never let two
// generations of a run go on at once. One that hands over starts the next in its
// last state, and is there for a moment more.
func (l *lane) oneRunAtATime(t *testing.T) {
	t.Helper()
	byName := map[string][]lifetime{}
	for _, x := range l.runs(t) {
		name := x.name[:strings.LastIndex(x.name, "-g")]
		byName[name] = append(byName[name], x)
	}
	for name, all := range byName {
		slices.SortFunc(all, func(a, b lifetime) int { return a.from.Compare(b.from) })
		for i, x := range all {
			if want := fmt.Sprintf("%s-g%d", name, i+1); x.name != want {
				t.Errorf("generation %s began as number %d", x.name, i+1)
			}
			if i > 0 && x.from.Before(all[i-1].until) && !l.handedOver(t, all[i-1]) {
				t.Errorf("%s began while %s was going on", x.name, all[i-1].name)
			}
		}
	}
}

// handedOver reports a run whose last state was the one that starts the next
// generation.
func (l *lane) handedOver(t *testing.T, x lifetime) bool {
	t.Helper()
	out, err := l.sfn.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: &x.arn, ReverseOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range out.Events {
		if e.StateEnteredEventDetails != nil {
			name := aws.ToString(e.StateEnteredEventDetails.Name)
			return name == "HandOver" || name == "HandedOver"
		}
	}
	return false
}
