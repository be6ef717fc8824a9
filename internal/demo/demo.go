// Package demo answers: does a rotation under load cost the application even
// one request, and is the old login dead afterwards?
//
// It plays an operator and an application on one machine: a real PostgreSQL
// with a replica, the local AWS, the real function binaries and the real state
// machine, and consumers under an open-loop load. What it reports is measured,
// and cross-checked with the server's own log.
package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/scratch"
)

// The intervals of the load.
const (
	intervalWarmup   = "warmup"
	intervalBaseline = "baseline"
	intervalRotation = "rotation"
	intervalReverse  = "reverse"
	intervalAfter    = "after"
)

// Run plays the whole demo. The outcome is complete even when a rotation went
// wrong; an error means that the demo itself couldn't be played, or, with a
// complete outcome, that its report couldn't be written.
func Run(ctx context.Context, o Options) (Outcome, error) {
	if err := o.validate(); err != nil {
		return Outcome{}, err
	}
	folder, err := scratch.Make("", "keyturn-demo-")
	if err != nil {
		return Outcome{}, fault.Wrap(fault.Internal, err, "making the demo's folder")
	}
	dir := folder.Path
	if o.Keep {
		fmt.Fprintf(o.Progress, "keeping logs, policy and audit trail in %s\n", dir)
		if err := folder.Keep(); err != nil {
			return Outcome{}, fault.Wrap(fault.Internal, err, "keeping the demo's folder")
		}
	} else {
		defer func() { _ = folder.Remove() }() // the next demo's start tries again
	}
	s := &stage{options: o, dir: dir, started: time.Now()}
	defer s.close()
	if err := s.build(ctx); err != nil {
		return Outcome{}, err
	}
	if err := s.open(ctx); err != nil {
		return Outcome{}, err
	}
	live := s.watch(ctx)
	defer live.stop()
	if err := s.measureBaseline(ctx); err != nil {
		return Outcome{}, err
	}
	if o.KillRandom {
		killing, stop := context.WithCancel(ctx)
		defer stop()
		go s.stopExecutions(killing)
	}
	if err := s.rotations(ctx); err != nil {
		return Outcome{}, err
	}
	s.load.Mark(intervalAfter)
	if err := pause(ctx, time.Second); err != nil {
		return Outcome{}, err
	}
	live.stop()
	outcome, err := s.prove(ctx)
	if err != nil {
		return Outcome{}, err
	}
	outcome.proven = true
	if o.Report != "" {
		return outcome, s.report(outcome)
	}
	return outcome, nil
}

// rotations runs what the options ask for.
func (s *stage) rotations(ctx context.Context) error {
	s.load.Mark(intervalRotation)
	for i := range s.options.Rotations {
		var err error
		switch {
		case s.options.Naive:
			err = s.rotateInPlace(ctx)
		default:
			err = s.rotate(ctx, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measureBaseline lets the same load run without any rotation.
func (s *stage) measureBaseline(ctx context.Context) error {
	s.load.Mark(intervalWarmup)
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	s.load.Mark(intervalBaseline)
	return pause(ctx, s.options.Baseline)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s *stage) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}
