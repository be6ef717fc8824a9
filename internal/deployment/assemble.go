package deployment

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/bucket"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions/awsruns"
	"github.com/keyturn/keyturn/store/awssm"
)

// Actor is who acts, as the audit trail names it.
type Actor struct {
	Name  string
	Type  audit.ActorType
	Lines io.Writer // takes the audit records as JSON lines
	// Now is what the actor takes for the time; nil means time.Now.
	Now func() time.Time
}

// Assemble puts the parts together.
func Assemble(cfg aws.Config, s Settings, actor Actor, log *slog.Logger) (*rotation.Rotator, error) {
	policies, err := policy.Load(s.Policy)
	if err != nil {
		return nil, err
	}
	return AssembleWith(cfg, s, policies, actor, log), nil
}

// AssembleWith is Assemble for who has the policy document already.
func AssembleWith(cfg aws.Config, s Settings, policies policy.Document, actor Actor, log *slog.Logger) *rotation.Rotator {
	if actor.Now == nil {
		actor.Now = time.Now
	}
	ledger, sightings := Trail(cfg, s)
	store := &awssm.Store{API: secretsmanager.NewFromConfig(cfg), Region: cfg.Region}
	engines := engines{postgres.Kind: postgres.New(postgres.Config{
		Values: store, Presenters: webhook.New(webhook.Config{Keys: store, Now: actor.Now, Log: log}),
		Evidence: evidence{sightings}, Refusals: audit.Refusals{Ledger: ledger}, Now: actor.Now, Logger: log,
	})}
	r := &rotation.Rotator{
		Store: store, Engines: engines, Policies: policies,
		Journal: &audit.Journal{Ledger: ledger, Lines: actor.Lines, Actor: actor.Name, ActorType: actor.Type, Redact: lambdaentry.Redact, Now: actor.Now, Log: log},
		Now:     actor.Now, Log: log,
	}
	if s.StateMachine != "" {
		r.Runs = &awsruns.Runs{API: sfn.NewFromConfig(cfg), StateMachine: func(secret string) (string, error) {
			zone, err := policies.Zone(secret)
			return awsruns.ZoneMachine(s.StateMachine, zone), err
		}}
	}
	return r
}

// Trail is where records and evidence lie.
func Trail(cfg aws.Config, s Settings) (audit.Ledger, audit.Evidence) {
	if s.AuditBucket == "" {
		return audit.Dir{Root: s.AuditDir}, audit.EvidenceDir{Dir: s.AuditDir}
	}
	ledger := &bucket.Ledger{API: s3.NewFromConfig(cfg), Bucket: s.AuditBucket}
	return ledger, audit.EvidenceLedger{Ledger: ledger}
}

type engines map[string]rotation.Engine

func (e engines) Engine(kind string) (rotation.Engine, error) {
	if engine, ok := e[kind]; ok {
		return engine, nil
	}
	return nil, fault.New(fault.Internal, "this function has no engine for %q", kind).
		WithHint("the policy document is newer than the function: deploy both from one release")
}

// Kinds are the kinds that keyturn.yaml may name, with their defaults and what
// validates their settings.
func Kinds() map[string]compile.Kind {
	return map[string]compile.Kind{
		postgres.Kind: {
			Defaults: postgres.New(postgres.Config{}).Defaults(),
			Validate: func(settings json.RawMessage) error { _, err := postgres.ParseSettings(settings); return err },
			Needs: func(settings json.RawMessage) compile.Needs {
				s, _ := postgres.ParseSettings(settings) // validated
				return compile.Needs{Secrets: s.Reads(), Files: s.Files(), LogGroups: s.LogGroups}
			},
		},
	}
}

// evidence turns what parties wrote into what engines judge.
type evidence struct{ kept audit.Evidence }

func (e evidence) Seen(ctx context.Context, secret, version string) ([]rotation.Evidence, error) {
	sightings, err := e.kept.Seen(ctx, secret, version)
	if err != nil {
		return nil, err
	}
	seen := make([]rotation.Evidence, 0, len(sightings))
	for _, s := range sightings {
		seen = append(seen, rotation.Evidence{Party: s.Party, Digest: s.Digest, By: s.By, Proof: rotation.Proof(s.Proof), At: s.At, Expires: s.Expires})
	}
	return seen, nil
}
