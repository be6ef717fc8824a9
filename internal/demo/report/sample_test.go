package report_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/demo/report"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

// sample is a run with some rotations, in shape like a real one.
func sample(rotations int) report.Data {
	const baseline, each = 8.0, 17.0
	random := rand.New(rand.NewPCG(1, 2))
	end := baseline + each*float64(rotations)
	d := report.Data{
		Title: "Keyturn demo", Start: began, End: at(end), Deadline: 250 * time.Millisecond,
		Parameters: []report.Parameter{{"consumers", "50"}, {"rate", "1,000 requests/s"}, {"PostgreSQL", "15.18, one replica"}},
		Result: report.Result{
			Requests: 27891, P999: 80.9, P999WithoutRotation: 58.9, Rotations: rotations,
			OldLoginResult: report.Rejected, OldAliveAfterLastUse: 2.8, AuditOK: true, Reconnects: 3,
		},
		Without: latency(8136, 1), With: latency(17740, 1.15),
		Findings: []report.Finding{
			{Grade: report.Good, Text: "No login of a consumer was refused in the server's log before disable."},
			{Grade: report.Note, Text: "The drain waited 6.0 s for nightly-01."},
		},
	}
	for i := range rotations {
		start := baseline + each*float64(i)
		old, fresh := fmt.Sprintf("app_v%d", i+1), fmt.Sprintf("app_v%d", i+2)
		d.Rotations = append(d.Rotations, report.Rotation{
			Name: fmt.Sprintf("rotation %d", i+1), Old: old, New: fresh, Promoted: at(start + 2), Refused: at(start + 12),
		})
		from := start
		for _, s := range []struct {
			name  string
			kind  report.Kind
			lasts float64
		}{
			{"create", report.Head, 0.4}, {"set", report.Head, 0.7}, {"test", report.Head, 0.6}, {"finish", report.Head, 0.3},
			{"adopt", report.Tail, 2.5}, {"drain", report.Tail, 7}, {"disable", report.Tail, 0.8}, {"hold", report.Tail, 2}, {"revoke", report.Tail, 0.7},
		} {
			d.States = append(d.States, report.Span{Rotation: i, Name: s.name, Kind: s.kind, From: at(from), To: at(from + s.lasts)})
			from += s.lasts
		}
		for n := range 50 {
			habit := []string{"bursty", "environ", "bursty", "environ", "longtx", "perconnect"}[n%6]
			d.Drains = append(d.Drains, report.Drain{
				Rotation: i, Consumer: fmt.Sprintf("%s-%02d", habit, n), Habit: habit,
				LastOld: at(start + 2 + random.Float64()*4), FirstNew: at(start + 2.3 + random.Float64()*3),
			})
		}
		for seq, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret", "adoptSecret", "drainCheck", "disableSecret", "revokeSecret"} {
			for _, phase := range []string{"intent", "result"} {
				d.Audit = append(d.Audit, report.AuditRecord{
					Time: at(start + float64(seq)), Rotation: fmt.Sprintf("rotation %d", i+1), Step: step, Phase: phase, Seq: len(d.Audit) + 1, Outcome: "done",
					From: "6f1e0c52-aaaa-4bbb-8ccc-000000000001", To: "0d9f8e71-aaaa-4bbb-8ccc-000000000002", Hash: fmt.Sprintf("%064x", random.Uint64()),
				})
			}
		}
	}
	for s := 1.0; s <= end; s++ {
		d.Series = append(d.Series, second(random, s, baseline, each, rotations))
	}
	return d
}

func second(random *rand.Rand, s, baseline, each float64, rotations int) report.Second {
	p := report.Second{
		At: at(s), Requests: int64(980 + random.IntN(60)), P50: time.Duration(1300+random.IntN(500)) * time.Microsecond,
		P99: time.Duration(4+random.IntN(15)) * time.Millisecond, Max: time.Duration(12+random.IntN(60)) * time.Millisecond,
		Logins: map[string]int{},
	}
	i := int(math.Floor((s - baseline) / each))
	i = min(max(i, 0), rotations-1)
	moved := min(max((s-baseline-each*float64(i)-2)/4, 0), 1)
	if left := int(158 * (1 - moved)); left > 0 {
		p.Logins[fmt.Sprintf("app_v%d", i+1)] = left
	}
	if come := int(158 * moved); come > 0 {
		p.Logins[fmt.Sprintf("app_v%d", i+2)] = come
	}
	return p
}

func latency(n int64, slower float64) report.Latency {
	l := report.Latency{Requests: n}
	left := n
	edge := 1.1 * slower
	for left > 0 {
		here := min(left, max(1, left*3/5))
		l.Bars = append(l.Bars, report.Bar{UpTo: time.Duration(edge * float64(time.Millisecond)), Requests: here})
		left -= here
		edge *= 1.45
	}
	last := l.Bars[len(l.Bars)-1].UpTo
	l.P50, l.P99, l.P999, l.Max = l.Bars[0].UpTo, last/8, last/2, last
	return l
}
