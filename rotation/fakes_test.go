package rotation_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// runs is Step Functions reduced to names.
type runs struct {
	mu   sync.Mutex
	runs map[string]rotation.Run
	in   map[string]rotation.Input
	down bool
	now  func() time.Time
}

func (r *runs) Start(_ context.Context, name string, in rotation.Input) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return fault.New(fault.Unavailable, "Step Functions is down")
	}
	if _, ok := r.runs[name]; !ok {
		r.runs[name], r.in[name] = rotation.Run{Name: name, Status: rotation.RunRunning}, in
	}
	return nil
}

func (r *runs) Stop(_ context.Context, _, name, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run, ok := r.runs[name]; ok && run.Status == rotation.RunRunning {
		run.Status, run.Stopped = rotation.RunAborted, r.now()
		r.runs[name] = run
	}
	return nil
}

func (r *runs) Describe(_ context.Context, _, name string) (rotation.Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return rotation.Run{}, fault.New(fault.Unavailable, "Step Functions is down")
	}
	if run, ok := r.runs[name]; ok {
		return run, nil
	}
	return rotation.Run{Name: name, Status: rotation.RunAbsent}, nil
}

func (r *runs) end(name string, status rotation.RunStatus, at time.Time, cause string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.runs[name]
	run.Status, run.Stopped, run.Cause = status, at, cause
	r.runs[name] = run
}

func (r *runs) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.runs {
		names = append(names, strings.TrimPrefix(name, rotation.RunName(arn, "", "")[:17]))
	}
	slices.Sort(names)
	return names
}

// journal keeps records and can be down.
type journal struct {
	mu      sync.Mutex
	records []audit.Record
	down    bool
}

func (j *journal) Record(_ context.Context, r audit.Record) error {
	if j.down {
		return fault.New(fault.AuditUnavailable, "the ledger is down")
	}
	j.Note(context.Background(), r)
	return nil
}

func (j *journal) Note(_ context.Context, r audit.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

type policies struct{ policy rotation.Policy }

func (p policies) Policy(secret string) (rotation.Policy, error) {
	if secret != arn {
		return rotation.Policy{}, fault.New(fault.NotManaged, "%s isn't listed", secret).WithHint("add it to keyturn.yaml")
	}
	return p.policy, nil
}

func (policies) Secrets() []string { return []string{arn} }
