package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/demo/report"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// prove looks at everything that is left when the load has ended: the dead
// logins, the roles, the logs, the audit trail.
func (s *stage) prove(ctx context.Context) (Outcome, error) {
	s.load.Stop()
	o := s.measured()
	if !s.options.Naive {
		if err := s.proveTrail(ctx, &o); err != nil {
			return o, err
		}
	}
	var err error
	if o.ServerRejections, err = s.serverRejections(o.records); err != nil {
		return o, err
	}
	if o.OldLoginResult, err = s.oldLogins(ctx); err != nil {
		return o, err
	}
	o.OldAliveAfterLastUse = s.oldAlive()
	if o.OrphanRoles, err = s.orphans(ctx); err != nil {
		return o, err
	}
	o.LeakedIn, err = s.leaks(ctx)
	o.LeakedSecretValues, o.Unread = len(o.LeakedIn), s.unread
	o.Void = o.void()
	return o, err
}

// measured is what the consumers themselves have counted.
func (s *stage) measured() Outcome {
	during := s.load.Totals(intervalRotation, intervalReverse, intervalAfter)
	baseline := s.load.Totals(intervalBaseline)
	o := Outcome{
		Result: report.Result{
			Requests: during.Requests, FailedRequests: during.Failed,
			P999: milliseconds(during.P999), P999WithoutRotation: milliseconds(baseline.P999),
			AuthRetries: during.AuthRetries, Reconnects: during.Reconnects, Terminated: during.Terminated,
			Rotations: len(s.turns), States: [][]string{},
		},
		FailedWithoutRotation: baseline.Failed, HeapMiB: s.heap, FailureReasons: during.Reasons,
		during: during, baseline: baseline, naive: s.options.Naive,
	}
	for _, f := range during.FailedDetail {
		text := fmt.Sprintf("%.1f s %s: %s after %s", f.At.Sub(s.started).Seconds(), f.Consumer, f.Reason, f.Latency.Round(time.Millisecond))
		if f.Stolen > 0 {
			text += fmt.Sprintf(", of which a processor was taken away for %s", f.Stolen.Round(time.Millisecond))
		}
		o.FirstFailures = append(o.FirstFailures, text)
	}
	o.LateOnStolenTime = during.Stolen
	if s.options.KillRandom {
		o.KilledFunctions, o.StoppedExecutions = s.chaos.Killed, s.chaos.Stopped
	}
	if s.options.Rollback {
		failed := s.load.Totals(intervalReverse, intervalAfter).Failed
		o.FailedAfterReverse = &failed
	}
	return o
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *stage) proveTrail(ctx context.Context, o *Outcome) error {
	ledger := audit.Dir{Root: s.path("audit")}
	records, err := audit.Records(ctx, ledger, s.appARN)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the audit trail")
	}
	o.records, o.States = records, s.states(records)
	_, err = audit.Verify(ctx, ledger, s.appARN)
	o.AuditOK, o.AuditRecords = err == nil, len(records)
	if err != nil {
		o.AuditFindings = strings.Split(err.Error(), "\n")
	}
	return nil
}

// states lists, for each rotation, the steps that its audit chain shows, in order.
func (s *stage) states(records []audit.Record) [][]string {
	all := make([][]string, 0, len(s.turns))
	for _, t := range s.turns {
		var states []string
		for _, r := range records {
			if r.RotationID != t.Token || (len(states) > 0 && states[len(states)-1] == r.Step) {
				continue
			}
			if r.Step == "revoke" {
				states = append(states, "hold")
			}
			states = append(states, r.Step)
		}
		end := "stable"
		if t.Back {
			end = "rolled back"
		}
		all = append(all, append(states, end))
	}
	return all
}

// oldLogins tries each credential that was replaced on each node, beside the
// current one as a control: a server that refuses everybody proves nothing.
func (s *stage) oldLogins(ctx context.Context) (string, error) {
	if len(s.turns) == 0 {
		return "none", nil
	}
	control := s.turns[len(s.turns)-1].kept()
	for _, node := range []*pgtest.Server{s.cluster.Primary, s.cluster.Replica} {
		if class, err := s.try(ctx, node, control); class != "" {
			return "", fault.Wrap(fault.CredentialRejected, err, "logging in on %s with the current login", node.Address())
		}
		for _, t := range s.turns {
			if t.gone().Username == "" {
				continue // rolled back before it had a value
			}
			switch class, err := s.try(ctx, node, t.gone()); class {
			case "":
				return "accepted", nil
			case "28":
			default:
				return "unknown", fault.Wrap(fault.Unavailable, err, "trying the old login on %s", node.Address())
			}
		}
	}
	return report.Rejected, nil
}

// try logs in once and returns the class of the refusal, or "".
func (s *stage) try(ctx context.Context, node *pgtest.Server, c credential) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.cluster.DSN(node, pgtest.Login{User: c.Username, Password: c.Password, Database: databaseName}))
	if err == nil {
		return "", conn.Close(ctx)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code[:2], errors.New("SQLSTATE " + refused.Code)
	}
	return "other", errors.New("no answer from the server")
}

// oldAlive is the longest time, in seconds, for which an old login was accepted
// although nobody used it any more: the price of proof.
func (s *stage) oldAlive() float64 {
	uses := s.load.Uses()
	longest := 0.0
	for _, t := range s.turns {
		last, refused := t.Promoted, s.refusedAt(t)
		for _, u := range uses {
			if u.Login == t.gone().Username && u.Last.After(last) {
				last = u.Last
			}
		}
		if !refused.IsZero() {
			longest = max(longest, refused.Sub(last).Seconds())
		}
	}
	return longest
}

// refusedAt is when the last disable of a turn was over, or zero.
func (s *stage) refusedAt(t turn) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at time.Time
	for _, sp := range s.spans {
		if sp.token == t.Token && sp.name == "Disable" {
			at = sp.to
		}
	}
	return at
}

// orphans counts the logins that the secret no longer names, the identity apart.
func (s *stage) orphans(ctx context.Context) (int, error) {
	conn, err := s.cluster.Superuser(ctx, s.cluster.Primary, "postgres")
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	live := []string{appName}
	if n := len(s.turns); n > 0 {
		live = append(live, s.turns[n-1].kept().Username)
	}
	var n int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 AND NOT rolname = ANY($2)`, appName+"%", live).Scan(&n)
	return n, fault.Wrap(fault.Internal, err, "counting roles")
}
