// Package awssm answers: how do versions, labels and values live in AWS Secrets
// Manager?
//
// Every label write decides on the service's refusal and then looks: a lost
// answer and a lost race look alike, and only the labels tell them apart.
package awssm

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// API is what is called of Secrets Manager; a role that runs steps needs these
// actions and no others.
type API interface {
	DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
	ListSecrets(context.Context, *secretsmanager.ListSecretsInput, ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretsOutput, error)
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
	PutSecretValue(context.Context, *secretsmanager.PutSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error)
	UpdateSecretVersionStage(context.Context, *secretsmanager.UpdateSecretVersionStageInput, ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error)
	RotateSecret(context.Context, *secretsmanager.RotateSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.RotateSecretOutput, error)
}

// PauseTag stops new rotations of a secret; a tag can only narrow the policy.
const PauseTag = "keyturn:pause"

// Store implements rotation.Store.
type Store struct {
	API    API
	Region string // the functions' own: a secret whose primary is elsewhere is a replica
}

var (
	_ rotation.Store  = (*Store)(nil)
	_ rotation.Lister = (*Store)(nil)
)

// Describe reads the labels and what makes a secret unfit for rotation.
func (s *Store) Describe(ctx context.Context, secret string) (rotation.Description, error) {
	out, err := s.API.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &secret})
	if code(err) == "ResourceNotFoundException" {
		return rotation.Description{}, &fault.Error{
			Name: codes[code(err)], Doing: "looking for secret " + secret, Err: err,
			Hint: "check its ARN, and that the region and the credentials are those of the account that holds it",
		}
	}
	if err != nil {
		return rotation.Description{}, named(err, "DescribeSecret")
	}
	return s.description(types.SecretListEntry{
		ARN: out.ARN, Name: out.Name, DeletedDate: out.DeletedDate, OwningService: out.OwningService,
		RotationEnabled: out.RotationEnabled, LastRotatedDate: out.LastRotatedDate, NextRotationDate: out.NextRotationDate,
		RotationRules: out.RotationRules, PrimaryRegion: out.PrimaryRegion, Tags: out.Tags,
		SecretVersionsToStages: out.VersionIdsToStages,
	}), nil
}

// description is what both DescribeSecret and a page of ListSecrets show.
func (s *Store) description(out types.SecretListEntry) rotation.Description {
	d := rotation.Description{
		ARN: aws.ToString(out.ARN), Name: aws.ToString(out.Name),
		Deleted: out.DeletedDate != nil, OwningService: aws.ToString(out.OwningService),
		RotationEnabled: out.RotationEnabled, LastRotated: aws.ToTime(out.LastRotatedDate),
		NextRotation: aws.ToTime(out.NextRotationDate), Every: every(out.RotationRules),
		Versions: rotation.Versions{},
	}
	if primary := aws.ToString(out.PrimaryRegion); primary != "" && primary != s.Region {
		d.ReplicaOf = primary
	}
	for id, stages := range out.SecretVersionsToStages {
		labels := make([]rotation.Label, 0, len(stages))
		for _, stage := range stages {
			labels = append(labels, rotation.Label(stage))
		}
		d.Versions[id] = labels
	}
	for _, tag := range out.Tags {
		d.Paused = d.Paused || aws.ToString(tag.Key) == PauseTag
	}
	return d
}

// every is the time between two scheduled rotations. A cron's varies; then
// NextRotationDate says what there is to know.
func every(rules *types.RotationRulesType) time.Duration {
	if rules == nil {
		return 0
	}
	return time.Duration(aws.ToInt64(rules.AutomaticallyAfterDays)) * 24 * time.Hour
}

// Value reads one version by its id, whatever its labels are.
func (s *Store) Value(ctx context.Context, secret, version string) (rotation.Value, error) {
	v, _, err := s.get(ctx, &secretsmanager.GetSecretValueInput{SecretId: &secret, VersionId: &version})
	return v, err
}

// Current reads what consumers read.
func (s *Store) Current(ctx context.Context, secret string) (rotation.Value, string, error) {
	return s.get(ctx, &secretsmanager.GetSecretValueInput{SecretId: &secret})
}

func (s *Store) get(ctx context.Context, in *secretsmanager.GetSecretValueInput) (rotation.Value, string, error) {
	out, err := s.API.GetSecretValue(ctx, in)
	if code(err) == "ResourceNotFoundException" {
		return rotation.Value{}, "", fault.Wrap(fault.InvalidStage, err, "reading a version that has no value")
	}
	if err != nil {
		return rotation.Value{}, "", named(err, "GetSecretValue")
	}
	if out.SecretString == nil {
		return rotation.Value{}, "", fault.New(fault.InvalidInput, "the secret's value is binary").
			WithHint("store a JSON document as SecretString (docs/policy.md lists its fields)")
	}
	return rotation.NewValue(*out.SecretString), aws.ToString(out.VersionId), nil
}

// Put stores the new version's value. Stages are always sent: without them the
// version would be current at once (rule C3.6).
func (s *Store) Put(ctx context.Context, c rotation.Change, v rotation.Value) error {
	in := &secretsmanager.PutSecretValueInput{
		SecretId: &c.Secret, ClientRequestToken: &c.To, SecretString: aws.String(v.Reveal()),
	}
	for _, l := range rotation.MadeLabels(c.Policy.Driver, c.To) {
		in.VersionStages = append(in.VersionStages, string(l))
	}
	if !c.RotationToken.Empty() {
		in.RotationToken = aws.String(c.RotationToken.Reveal())
	}
	_, err := s.API.PutSecretValue(ctx, in)
	if code(err) == "ResourceExistsException" {
		return fault.Wrap(fault.Conflict, err, "storing version %s, which has another value", c.To)
	}
	return named(err, "PutSecretValue")
}

// Attach is set-if-absent: without RemoveFromVersionId Secrets Manager refuses
// a label that another version holds.
func (s *Store) Attach(ctx context.Context, secret string, label rotation.Label, version string) error {
	return s.label(ctx, secret, label, version, "")
}

// Move is compare-and-swap: a RemoveFromVersionId that doesn't hold the label
// is refused.
func (s *Store) Move(ctx context.Context, secret string, label rotation.Label, to, from string) error {
	return s.label(ctx, secret, label, to, from)
}

// Detach takes a label off. A label that isn't there is refused by the service,
// and found to be gone by the look that follows a refusal.
func (s *Store) Detach(ctx context.Context, secret string, label rotation.Label, version string) error {
	return s.label(ctx, secret, label, "", version)
}

func (s *Store) label(ctx context.Context, secret string, label rotation.Label, to, from string) error {
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &secret, VersionStage: aws.String(string(label))}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" && from != to {
		in.RemoveFromVersionId = &from
	}
	_, err := s.API.UpdateSecretVersionStage(ctx, in)
	if err == nil {
		return nil
	}
	d, again := s.Describe(ctx, secret)
	if again == nil && ((to != "" && d.Versions.Has(to, label)) || (to == "" && !d.Versions.Has(from, label))) {
		return nil
	}
	switch code(err) {
	case "InvalidParameterException", "InvalidRequestException":
		return fault.Wrap(fault.Conflict, err, "moving label %s", label)
	case "LimitExceededException": // waiting makes no room
		return fault.New(fault.Blocked, "the secret has no room for the label %s: %s", label, err).
			WithHint("a secret has 20 staging labels at most; take off those of others with aws secretsmanager update-secret-version-stage, then keyturn resume")
	}
	return named(err, "UpdateSecretVersionStage")
}

// Rotate starts Secrets Manager's own rotation under our token.
func (s *Store) Rotate(ctx context.Context, secret, token string) error {
	_, err := s.API.RotateSecret(ctx, &secretsmanager.RotateSecretInput{SecretId: &secret, ClientRequestToken: &token})
	if code(err) != "InvalidRequestException" {
		return named(err, "RotateSecret")
	}
	// One code for a rotation that isn't complete, a secret without a rotation
	// function and a deleted one: the labels say which.
	d, again := s.Describe(ctx, secret)
	if again != nil {
		return again
	}
	p := d.Versions.Holder(rotation.Pending)
	if p == token {
		return nil // our own, asked for again; Secrets Manager takes it up
	}
	if p != "" && !d.Versions.Has(p, rotation.Current) {
		return fault.Wrap(fault.RotationInProgress, err, "starting a rotation while version %s is AWSPENDING", p)
	}
	return fault.Wrap(fault.RotationDisabled, err, "starting a rotation")
}
