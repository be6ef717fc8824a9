package secretsmanager

import (
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const maxValue = 65536

func newUUID() string { return uuid.NewString() }

type createSecretInput struct {
	Name               string
	ClientRequestToken string
	Description        string
	KmsKeyID           string `json:"KmsKeyId"`
	SecretBinary       []byte
	SecretString       *string
	Tags               []tag
	Type               string
	// The SDKs always send it; replication itself isn't modelled.
	ForceOverwriteReplicaSecret bool
}

type valueOutput struct {
	ARN           string
	Name          string
	VersionID     string   `json:"VersionId,omitempty"`
	VersionStages []string `json:",omitempty"`
}

func (s *Service) createSecret(in createSecretInput) (any, error) {
	if !namePattern.MatchString(in.Name) {
		return nil, badName()
	}
	if err := checkValue(in.SecretString, in.SecretBinary); err != nil {
		return nil, err
	}
	hasValue := in.SecretString != nil || in.SecretBinary != nil
	if err := requireToken(in.ClientRequestToken, hasValue); err != nil {
		return nil, err
	}
	tags, err := mergeTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	if out, err := s.createdBefore(in, hasValue); out != nil || err != nil {
		return out, err
	}
	now := s.clock.Now()
	sec := &secret{
		name: in.Name, arn: newARN(in.Name), description: in.Description, kmsKey: in.KmsKeyID, kind: in.Type,
		created: now, changed: now, tags: tags, readVersions: map[string]time.Time{},
		view: view{versions: map[string]*version{}, labels: map[string]string{}},
	}
	out := valueOutput{ARN: sec.arn, Name: sec.name}
	if hasValue {
		id := in.ClientRequestToken
		sec.versions[id] = &version{id: id, created: now, text: in.SecretString, binary: in.SecretBinary}
		sec.labels[current] = id
		out.VersionID = id
	}
	s.secrets = append(s.secrets, sec)
	return out, nil
}

// createdBefore answers for a name that is taken.
func (s *Service) createdBefore(in createSecretInput, hasValue bool) (any, error) {
	s.purgeDeleted()
	for _, sec := range s.secrets {
		if sec.name != in.Name {
			continue
		}
		if !sec.deletion.IsZero() {
			return nil, awsproto.Errorf("InvalidRequestException",
				"You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		v := sec.versions[in.ClientRequestToken]
		if hasValue && v != nil && v.equal(in.SecretString, in.SecretBinary) {
			return valueOutput{ARN: sec.arn, Name: sec.name, VersionID: v.id}, nil
		}
		return nil, awsproto.Errorf("ResourceExistsException",
			"The operation failed because the secret %s already exists.", in.Name)
	}
	return nil, nil
}

type putSecretValueInput struct {
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
	RotationToken      *string
	SecretBinary       []byte
	SecretString       *string
	VersionStages      []string
}

func (s *Service) putSecretValue(in putSecretValueInput) (any, error) {
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	if in.SecretString == nil && in.SecretBinary == nil {
		return nil, awsproto.Errorf("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
	}
	if err := checkValue(in.SecretString, in.SecretBinary); err != nil {
		return nil, err
	}
	if err := requireToken(in.ClientRequestToken, true); err != nil {
		return nil, err
	}
	if err := checkStages(in.VersionStages); err != nil {
		return nil, err
	}
	if err := sec.rotation.checkToken(in.RotationToken, in.ClientRequestToken); err != nil {
		return nil, err
	}
	stages := in.VersionStages
	if len(stages) == 0 {
		stages = []string{current}
	}
	if err := s.writeVersion(sec, in.ClientRequestToken, in.SecretString, in.SecretBinary, stages); err != nil {
		return nil, err
	}
	return valueOutput{sec.arn, sec.name, in.ClientRequestToken, sec.labelsOf(in.ClientRequestToken)}, nil
}

func checkStages(stages []string) error {
	if len(stages) > maxLabels {
		return awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'versionStages' failed to satisfy constraint: Member must have length less than or equal to %d", maxLabels)
	}
	for _, label := range stages {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	return nil
}

// writeVersion makes the version, or fills the empty one that a rotation made,
// and gives it its labels. The same token with the same value does nothing.
func (s *Service) writeVersion(sec *secret, id string, text *string, binary []byte, stages []string) error {
	old := sec.versions[id]
	if old != nil && !old.empty() {
		if old.equal(text, binary) {
			return nil
		}
		return sec.tokenInUse(id)
	}
	if old == nil {
		if err := s.makeRoom(sec); err != nil {
			return err
		}
		if len(sec.versions) == 0 {
			stages = append(stages[:len(stages):len(stages)], current)
		}
	}
	if err := sec.fits(id, stages...); err != nil {
		return err
	}
	s.remember(sec)
	stranded := sec.labels[pending]
	sec.versions[id] = &version{id: id, created: s.clock.Now(), text: text, binary: binary}
	for _, label := range stages {
		sec.give(label, id)
		if label == current || label == pending {
			s.abandonUnless(sec, id, stranded)
		}
		if label == current {
			s.countAsRotated(sec, id)
		}
	}
	return nil
}

func (sec *secret) tokenInUse(token string) error {
	return awsproto.Errorf("ResourceExistsException",
		"You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", token, sec.arn)
}

type updateSecretInput struct {
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
	Description        *string
	KmsKeyID           *string `json:"KmsKeyId"`
	SecretBinary       []byte
	SecretString       *string
	Type               *string
}

func (s *Service) updateSecret(in updateSecretInput) (any, error) {
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	if err := checkValue(in.SecretString, in.SecretBinary); err != nil {
		return nil, err
	}
	out := valueOutput{ARN: sec.arn, Name: sec.name}
	hasValue := in.SecretString != nil || in.SecretBinary != nil
	if err := requireToken(in.ClientRequestToken, hasValue); err != nil {
		return nil, err
	}
	if hasValue {
		if sec.versions[in.ClientRequestToken] != nil { // here the same value is no repetition
			return nil, sec.tokenInUse(in.ClientRequestToken)
		}
		err := s.writeVersion(sec, in.ClientRequestToken, in.SecretString, in.SecretBinary, []string{current})
		if err != nil {
			return nil, err
		}
		out.VersionID = in.ClientRequestToken
	}
	for _, field := range []struct{ in, to *string }{
		{in.Description, &sec.description}, {in.KmsKeyID, &sec.kmsKey}, {in.Type, &sec.kind},
	} {
		if field.in != nil {
			*field.to = *field.in
			sec.changed = s.clock.Now()
		}
	}
	return out, nil
}

func checkValue(text *string, binary []byte) error {
	switch {
	case text != nil && binary != nil:
		return awsproto.Errorf("InvalidParameterException",
			"You can't specify both a binary secret value and a string secret value in the same secret.")
	case text != nil && (len(*text) < 1 || len(*text) > maxValue):
		return tooLong("secretString")
	case binary != nil && (len(binary) < 1 || len(binary) > maxValue):
		return tooLong("secretBinary")
	}
	return nil
}

func tooLong(member string) error {
	return awsproto.Errorf("ValidationException",
		"1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d", member, maxValue)
}

// requireToken checks a token that a call with a value must carry.
func requireToken(token string, required bool) error {
	if token == "" {
		if !required {
			return nil
		}
		return awsproto.Errorf("InvalidRequestException",
			"You must provide a ClientRequestToken value. We recommend a UUID-type value.")
	}
	return checkToken(token)
}

func checkToken(token string) error {
	if len(token) < 32 || len(token) > 64 {
		return awsproto.Errorf("InvalidParameterException",
			"ClientRequestToken must be 32-64 characters long.")
	}
	return nil
}

var rotationTokenPattern = regexp.MustCompile(`^[A-Za-z0-9-]{36,256}$`)
