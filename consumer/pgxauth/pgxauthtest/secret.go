// Package pgxauthtest answers: how does a consumer behave when its secret
// changes, or can't be read? It stands in for Secrets Manager in tests.
package pgxauthtest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// Secret is one secret that only answers GetSecretValue for AWSCURRENT. It
// refuses what Secrets Manager refuses, and whatever a consumer has no business
// to ask for. It is safe for concurrent use.
type Secret struct {
	arn, name string

	mu      sync.Mutex
	version string
	text    string
	err     error
	gate    chan struct{}
	calls   int
}

// NewSecret returns a secret without a value.
func NewSecret(name string) *Secret {
	return &Secret{name: name, arn: "arn:aws:secretsmanager:us-east-1:000000000000:secret:" + name + "-AbCdEf"}
}

// ARN returns the secret's ARN.
func (s *Secret) ARN() string { return s.arn }

// Put makes a version with this user and password current. More fields may be
// given as pairs of a name and a value.
func (s *Secret) Put(version, user, password string, more ...any) {
	fields := map[string]any{"engine": "postgres", "username": user, "password": password}
	for i := 0; i+1 < len(more); i += 2 {
		fields[more[i].(string)] = more[i+1]
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic("pgxauthtest: " + err.Error())
	}
	s.PutText(version, string(text))
}

// PutText makes a version with this SecretString current.
func (s *Secret) PutText(version, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.text = version, text
}

// Fail makes every later call fail; nil ends that.
func (s *Secret) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Hold makes calls wait until the returned function is called.
func (s *Secret) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	})
}

// Calls returns how often the secret was asked for.
func (s *Secret) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// GetSecretValue implements pgxauth.SecretsAPI.
func (s *Secret) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	s.mu.Lock()
	s.calls++
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, stage := aws.ToString(in.SecretId), aws.ToString(in.VersionStage)
	switch {
	case s.err != nil:
		return nil, s.err
	case id != s.arn && id != s.name:
		return nil, &types.ResourceNotFoundException{Message: aws.String("Secrets Manager can't find the specified secret.")}
	case stage != "AWSCURRENT" || in.VersionId != nil:
		return nil, &types.InvalidRequestException{Message: aws.String(fmt.Sprintf("a consumer reads AWSCURRENT, not stage %q", stage))}
	case s.version == "":
		return nil, &types.ResourceNotFoundException{Message: aws.String("Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")}
	}
	return &secretsmanager.GetSecretValueOutput{
		ARN: aws.String(s.arn), Name: aws.String(s.name), VersionId: aws.String(s.version),
		SecretString: aws.String(s.text), VersionStages: []string{"AWSCURRENT"},
	}, nil
}
