package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// end is how the entry ends without faults.
func (e entry) end() string {
	switch {
	case e.back != "":
		return "rolled back"
	case e.stolen:
		return "replaced"
	case e.foreign:
		return "adopted"
	}
	return "stable"
}

// after drops what came before the operator asked for a rollback: those points
// are another entry's.
func after(points []Point, back bool) []Point {
	if !back {
		return points
	}
	i := slices.IndexFunc(points, func(p Point) bool { return p.Function == "operator" })
	return points[max(i, 0):]
}

// single lists every fault of every point, one a walk: those of calls that
// change something, those of reads, and those of reads that come to the same as
// others, because it makes no difference on which side of a read a process ends.
func single(points []Point) (writing, reading, same [][]Fault) {
	for _, p := range points {
		for _, k := range kinds(p) {
			one := []Fault{{p, k}}
			switch {
			case !reads(p):
				writing = append(writing, one)
			case k == CrashAfter || k == AnswerLost || k == HangAfter:
				same = append(same, one)
			default:
				reading = append(reading, one)
			}
		}
	}
	return writing, reading, same
}

// order lists what is walked, the most dangerous first, so that a run which is
// cut short has an even sample of each kind.
func order(points []Point) [][]Fault {
	writing, reading, same := single(points)
	return append(inTurns(standing(), spread(writing), spread(paired(points)), spread(reading)), spread(same)...)
}

// round lists one fault a point, at each another kind than at the one before, and
// one pair where pairs are dangerous. The first has the conditions, too. As many
// rounds as a point has kinds or pairs play everything.
func round(points []Point, n int) [][]Fault {
	var alone, together [][]Fault
	for i, p := range points {
		if kinds := kinds(p); n <= len(kinds) {
			alone = append(alone, []Fault{{p, kinds[(i+n-1)%len(kinds)]}})
		}
		if pairs := pairs(p); n <= len(pairs) {
			together = append(together, pairs[(i+n-1)%len(pairs)])
		}
	}
	if n > 1 {
		return inTurns(spread(alone), spread(together))
	}
	return inTurns(standing(), spread(alone), spread(together))
}

// standing lists the conditions that hold for a whole walk.
func standing() [][]Fault {
	var all [][]Fault
	for _, k := range slices.Sorted(maps.Keys(conditions)) {
		at := Point{Function: "Secrets Manager", Layer: layerAWS, Name: "every call"}
		if k == Away {
			at = Point{Function: instanceName, Layer: layerInstance, Name: "every request"}
		}
		all = append(all, []Fault{{at, k}})
	}
	return all
}

// inTurns takes one of each list after the other.
func inTurns[T any](lists ...[]T) []T {
	var all []T
	for i := 0; ; i++ {
		before := len(all)
		for _, list := range lists {
			if i < len(list) {
				all = append(all, list[i])
			}
		}
		if len(all) == before {
			return all
		}
	}
}

// writes are the calls whose effect lasts: when their answer is lost, or the
// process is, somebody else has to find out what happened.
var writes = []string{"UpdateSecretVersionStage", "PutSecretValue", "StartExecution", "commit", "ALTER ROLE", "DROP ROLE", "POST"}

// paired lists the dangerous pairs of all points.
func paired(points []Point) [][]Fault {
	var all [][]Fault
	for _, p := range points {
		all = append(all, pairs(p)...)
	}
	return all
}

// pairs lists those of one point: a write whose answer is lost, then the call
// after the failure goes wrong as well, somewhere near.
func pairs(p Point) [][]Fault {
	if !slices.Contains(writes, p.Name) || p.Function == "operator" {
		return nil
	}
	var all [][]Fault
	for n, first := range []Kind{AnswerLost, CrashAfter} {
		for _, near := range []int{-2, -1, 0, 1, 2} {
			again := p
			again.Nth, again.Call, again.Name = p.Nth+1, p.Call+near, "the same again"
			if again.Call < 1 {
				continue
			}
			second := []Kind{CrashAfter, ResetBefore}[n]
			all = append(all, []Fault{{p, first}, {again, second}})
		}
	}
	return all
}

// spread orders a list so that any beginning of it is an even sample.
func spread[T any](all []T) []T {
	const golden = 0.6180339887498949
	type placed struct {
		at float64
		v  T
	}
	order := make([]placed, len(all))
	x := 0.0
	for i, v := range all {
		order[i] = placed{x, v}
		x += golden
		x -= float64(int(x))
	}
	slices.SortFunc(order, func(a, b placed) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	out := make([]T, len(all))
	for i, p := range order {
		out[i] = p.v
	}
	return out
}

func matching(all [][]Fault, text string) [][]Fault {
	return slices.DeleteFunc(all, func(f []Fault) bool { return !strings.Contains(fmt.Sprint(f), text) })
}
