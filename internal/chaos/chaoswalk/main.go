// Command chaoswalk plays every fault in a rotation of its own and ends with
// the line "faults N, invariants broken M". make chaos runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/keyturn/keyturn/internal/chaos"
)

func main() { os.Exit(run()) }

func run() int {
	o := chaos.Options{Progress: os.Stdout}
	flag.DurationVar(&o.Budget, "budget", 7*time.Minute, "how long walks with faults may be started; 0 means until all are done")
	flag.IntVar(&o.Workers, "workers", 0, "walks side by side; 0 means one a processor, and one more")
	flag.StringVar(&o.Scene, "scene", "", "how the scenes begin that are walked, such as \"RotateSecret, fresh\" or \"emergency\"")
	flag.StringVar(&o.Match, "match", "", "only faults whose text contains this")
	flag.IntVar(&o.Round, "round", 0, "one fault and one pair a point, in each round others: 1, 2 and so on; 0 means all, in an order of which any beginning is an even sample")
	flag.StringVar(&o.Journal, "journal", "", "a file: walks that it names are left out, and those that break nothing are added")
	flag.Parse()
	if o.Round < 0 {
		fmt.Fprintln(os.Stderr, "chaoswalk: -round is 1, 2 and so on, or 0 for all faults")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	totals, err := chaos.Run(ctx, o)
	totals.Write(os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaoswalk:", err)
		return 2
	case len(totals.Broken) > 0:
		return 1
	}
	return 0
}
