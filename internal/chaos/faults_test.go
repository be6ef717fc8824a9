package chaos

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryKindOfFaultIsListedOnce(t *testing.T) {
	t.Parallel()
	points := []Point{
		{"setSecret", 1, 0, layerLambda, "Invoke"},
		{"setSecret", 1, 1, layerAWS, "DescribeSecret"},
		{"setSecret", 1, 2, layerPostgres, "connect"},
		{"setSecret", 1, 3, layerPostgres, "commit"},
		{"setSecret", 1, 4, layerAWS, "UpdateSecretVersionStage"},
		{"setSecret", 1, 5, layerAudit, "Put"},
		{"adoptSecret", 1, 1, layerInstance, "GET"},
		{"adoptSecret", 1, 2, layerInstance, "POST"},
		{"rotateSecret", 2, 3, layerAWS, "GetSecretValue"},
		{"rotateSecret", 2, 4, layerPostgres, "ALTER ROLE"},
		{"rollback", 1, 1, layerAWS, "UpdateSecretVersionStage"},
		{"operator", 1, 1, layerAWS, "StartExecution"},
		{"state machine", 1, 1, layerStates, "StartExecution"},
	}
	seen := map[string]int{}
	alone := 0
	for _, faults := range order(points) {
		text := ""
		for _, f := range faults {
			text += f.String() + "; "
		}
		seen[text]++
		if len(faults) == 1 && conditions[faults[0].Kind] == nil {
			alone++
		}
	}
	for text, n := range seen {
		if n != 1 {
			t.Errorf("%s stands there %d times", text, n)
		}
	}
	want := 0
	for _, p := range points {
		want += len(kinds(p))
	}
	if alone != want {
		t.Errorf("%d faults alone, want %d", alone, want)
	}
}

func TestRoundsPlayWhatTheWholeListHas(t *testing.T) {
	t.Parallel()
	points := []Point{
		{"setSecret", 1, 0, layerLambda, "Invoke"},
		{"setSecret", 1, 1, layerAWS, "DescribeSecret"},
		{"setSecret", 1, 2, layerAWS, "UpdateSecretVersionStage"},
		{"setSecret", 1, 3, layerPostgres, "commit"},
		{"setSecret", 1, 4, layerPostgres, "SELECT"},
		{"state machine", 1, 1, layerStates, "StartExecution"},
	}
	count := func(all [][]Fault) map[string]int {
		n := map[string]int{}
		for _, faults := range all {
			n[fmt.Sprint(faults)]++
		}
		return n
	}
	touched := map[Point]bool{}
	for _, faults := range round(points, 1) {
		touched[faults[0].At] = true
	}
	for _, p := range points {
		if !touched[p] {
			t.Errorf("the first round leaves out %s", p)
		}
	}
	var rounds [][]Fault
	for n := 1; len(round(points, n)) > 0; n++ {
		rounds = append(rounds, round(points, n)...)
	}
	if diff := cmp.Diff(count(order(points)), count(rounds)); diff != "" {
		t.Errorf("how often each is played (-list +rounds):\n%s", diff)
	}
}

func TestWhoeverIsCalledByLambdaMayHang(t *testing.T) {
	t.Parallel()
	for function, want := range map[string]map[Kind]bool{
		"operator":     {HangBefore: false, HangAfter: false, Zombie: false, TurnedBack: false, Cancelled: false},
		"watchdog":     {HangBefore: true, HangAfter: true, Zombie: false, TurnedBack: false, Cancelled: false},
		"rollback":     {HangBefore: true, HangAfter: true, Zombie: false, TurnedBack: false, Cancelled: false},
		"setSecret":    {HangBefore: true, HangAfter: true, Zombie: true, TurnedBack: true, Cancelled: false},
		"rotateSecret": {HangBefore: true, HangAfter: true, Zombie: true, TurnedBack: true, Cancelled: true},
	} {
		for _, l := range []layer{layerAWS, layerPostgres, layerInstance} {
			all := kinds(Point{function, 1, 1, l, "commit"})
			for kind, may := range want {
				if slices.Contains(all, kind) != may {
					t.Errorf("%s, %s: %q is listed: %v", function, l, kind, !may)
				}
			}
		}
	}
}

func TestAnyBeginningIsAnEvenSample(t *testing.T) {
	t.Parallel()
	all := make([]int, 1000)
	for i := range all {
		all[i] = i
	}
	first := slices.Sorted(slices.Values(spread(all)[:100]))
	for i := 1; i < len(first); i++ {
		if gap := first[i] - first[i-1]; gap > 25 {
			t.Errorf("nothing between %d and %d", first[i-1], first[i])
		}
	}
}

func TestAStatementIsNamedWithoutItsValues(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"ALTER ROLE \"app\" PASSWORD 'SCRAM-SHA-256$x'":          "ALTER ROLE",
		"SELECT pg_advisory_xact_lock(hashtextextended('a', 0))": "SELECT pg_advisory_xact_lock",
		"commit":              "commit",
		"SELECT oid, rolname": "SELECT oid",
	} {
		if got := words([]byte(sql + "\x00")); got != want {
			t.Errorf("words(%q) = %q, want %q", sql, got, want)
		}
	}
}
