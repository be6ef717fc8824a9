package load

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Habit is how a consumer uses its login.
type Habit string

const (
	// Bursty: a pool with the library; requests come in bursts.
	Bursty Habit = "bursty"
	// Environ: a pool that read user and password once, at start, as from
	// environment variables; it follows by being restarted.
	Environ Habit = "environ"
	// PerConnect: a job that connects anew for each unit of work, each second.
	PerConnect Habit = "perconnect"
	// Nightly: a job that comes rarely. A drain has to wait for it.
	Nightly Habit = "nightly"
	// LongTx: a pool with the library whose transactions last for seconds.
	LongTx Habit = "longtx"
)

// Habits lists every habit.
func Habits() []Habit { return []Habit{Bursty, Environ, PerConnect, Nightly, LongTx} }

// DefaultMix gives most of the work to pools.
func DefaultMix() map[Habit]float64 {
	return map[Habit]float64{Bursty: 44, Environ: 44, PerConnect: 6, Nightly: 2, LongTx: 4}
}

// Sizes of the consumers' pools: small, as in a fleet of many instances.
const (
	burstyConns  = 4
	environConns = 3
	longTxConns  = 2
	warmConns    = 2
)

const (
	burstEvery      = 500 * time.Millisecond
	perConnectEvery = time.Second
	// leastRate keeps a pool in use however low the overall rate is.
	leastRate = 0.2
)

var quoteDSN = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// distribute gives each habit with a weight at least one consumer, as long as
// there are enough, and the others by weight.
func distribute(consumers int, mix map[Habit]float64) map[Habit]int {
	counts := make(map[Habit]int)
	var habits []Habit
	total := 0.0
	for _, h := range Habits() {
		if mix[h] > 0 {
			habits = append(habits, h)
			total += mix[h]
		}
	}
	for _, h := range habits {
		if consumers > 0 {
			counts[h] = 1
			consumers--
		}
	}
	if consumers == 0 || len(habits) == 0 {
		return counts
	}
	all := consumers + len(habits)
	for ; consumers > 0; consumers-- {
		// The next one goes to who is furthest below its share.
		h := slices.MaxFunc(habits, func(a, b Habit) int {
			return cmp.Compare(share(mix[a], total, all)-float64(counts[a]), share(mix[b], total, all)-float64(counts[b]))
		})
		counts[h]++
	}
	return counts
}

func share(weight, total float64, all int) float64 { return weight / total * float64(all) }

// plan makes the consumers, with their names and rates, not yet at work.
func (r *Run) plan() []*consumer {
	counts := distribute(r.cfg.Consumers, r.cfg.Mix)
	every := map[Habit]time.Duration{
		Bursty: burstEvery, PerConnect: perConnectEvery, Nightly: r.cfg.Cadence, LongTx: r.cfg.Transaction * 3 / 2,
	}
	left := r.cfg.Rate
	for _, h := range []Habit{PerConnect, Nightly, LongTx} {
		left -= float64(counts[h]) / every[h].Seconds()
	}
	rate := leastRate
	if pools := counts[Bursty] + counts[Environ]; pools > 0 {
		rate = max(rate, left/float64(pools))
	}
	var consumers []*consumer
	for _, h := range slices.Sorted(maps.Keys(counts)) {
		for i := range counts[h] {
			name := fmt.Sprintf("%s-%02d", h, i+1)
			c := &consumer{name: name, party: name, habit: h, every: every[h], byLogin: make(map[string]*Use)}
			switch h {
			case Bursty:
				c.perVisit = rate * burstEvery.Seconds()
			case Environ:
				c.party = string(Environ) // its instances are one party, restarted in waves
				c.every = time.Duration(float64(time.Second) / rate)
			case LongTx:
				c.lasts = r.cfg.Transaction
			}
			consumers = append(consumers, c)
		}
	}
	return consumers
}
