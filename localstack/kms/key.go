package kms

import (
	"crypto"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const (
	stateEnabled  = "Enabled"
	stateDisabled = "Disabled"
	stateDeleting = "PendingDeletion"

	arnPrefix = "arn:aws:kms:" + awsproto.Region + ":" + awsproto.Account + ":"
	// allowAll is the policy that a key gets when it is given none.
	allowAll = `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::` + awsproto.Account + `:root"},"Action":"kms:*","Resource":"*"}]}`
)

type key struct {
	id, description, policy string
	spec, usage             string
	state                   string
	created                 time.Time
	deletion                time.Time // when it is removed; zero unless that is scheduled
	tags                    []tag
	signer                  crypto.Signer
}

func (k *key) arn() string { return arnPrefix + "key/" + k.id }

// find returns the key that an id, an ARN or an alias in either form names.
func (s *Service) find(id string) (*key, error) {
	name := strings.TrimPrefix(id, arnPrefix)
	if strings.HasPrefix(name, "alias/") {
		a := s.aliases[name]
		if a == nil {
			return nil, notFound("Alias %s%s is not found.", arnPrefix, name)
		}
		return s.keys[a.target], nil
	}
	return s.findKey(id)
}

// findKey returns the key that an id or an ARN names. Actions that change keys
// take no alias.
func (s *Service) findKey(id string) (*key, error) {
	rest, isARN := strings.CutPrefix(id, arnPrefix)
	name, isKey := strings.CutPrefix(rest, "key/")
	switch {
	case id == "":
		return nil, invalid("KeyId is required")
	case strings.HasPrefix(id, "arn:") && isARN && !isKey:
		return nil, awsproto.Errorf("InvalidArnException", "%s is no key", id)
	case isARN != isKey:
		return nil, notFound("Invalid keyId %q", id)
	}
	k := s.keys[name]
	switch {
	case k != nil:
		return k, nil
	case uuid.Validate(name) != nil:
		return nil, notFound("Invalid keyId %q", id)
	}
	return nil, notFound("Key '%skey/%s' does not exist", arnPrefix, name)
}

func notFound(format string, args ...any) error {
	return awsproto.Errorf("NotFoundException", format, args...)
}

// usable is nil for a key that may be used.
func (k *key) usable() error {
	if k.state == stateDisabled {
		return awsproto.Errorf("DisabledException", "%s is disabled.", k.arn())
	}
	return k.changeable()
}

// changeable is nil for a key that isn't about to be deleted.
func (k *key) changeable() error {
	if k.state == stateDeleting {
		return awsproto.Errorf("KMSInvalidStateException", "%s is pending deletion.", k.arn())
	}
	return nil
}

type tag struct {
	TagKey   string
	TagValue string
}

type createKeyInput struct {
	Description string
	KeySpec     string
	KeyUsage    string
	Origin      string
	Policy      string
	MultiRegion bool
	Tags        []tag
}

type metadata struct {
	AWSAccountID          string `json:"AWSAccountId"`
	Arn                   string
	CreationDate          awsproto.Time
	CustomerMasterKeySpec string         // the older name of KeySpec
	DeletionDate          *awsproto.Time `json:",omitempty"`
	Description           string
	Enabled               bool
	KeyID                 string `json:"KeyId"`
	KeyManager            string
	KeySpec               string
	KeyState              string
	KeyUsage              string
	MultiRegion           bool
	Origin                string
	EncryptionAlgorithms  []string `json:",omitempty"`
	SigningAlgorithms     []string `json:",omitempty"`
}

type keyOutput struct{ KeyMetadata metadata }

func (k *key) metadata() metadata {
	m := metadata{
		AWSAccountID: awsproto.Account, Arn: k.arn(), CreationDate: awsproto.Time(k.created), CustomerMasterKeySpec: k.spec,
		Description: k.description, Enabled: k.state == stateEnabled, KeyID: k.id, KeyManager: "CUSTOMER", KeySpec: k.spec,
		KeyState: k.state, KeyUsage: k.usage, Origin: "AWS_KMS", SigningAlgorithms: specs[k.spec].algorithms,
	}
	if k.spec == symmetric {
		m.EncryptionAlgorithms = []string{symmetric}
	}
	if !k.deletion.IsZero() {
		at := awsproto.Time(k.deletion)
		m.DeletionDate = &at
	}
	return m
}

const (
	maxDescription = 8192  // characters
	maxKeyPolicy   = 32768 // bytes
	maxTags        = 50
)

func (s *Service) createKey(in createKeyInput) (any, error) {
	if in.KeySpec == "" {
		in.KeySpec = symmetric
	}
	if in.KeyUsage == "" {
		in.KeyUsage = encryptDecrypt
	}
	spec, ok := specs[in.KeySpec]
	switch {
	case len(in.Description) > maxDescription || len(in.Policy) > maxKeyPolicy || len(in.Tags) > maxTags:
		return nil, invalid("the description, the policy or the list of tags is too long")
	case in.Origin != "" && in.Origin != "AWS_KMS", in.MultiRegion:
		return nil, awsproto.Errorf("UnsupportedOperationException", "the local KMS has keys of the origin AWS_KMS in one Region")
	case !ok:
		return nil, awsproto.Errorf("UnsupportedOperationException", "the local KMS has no keys of the spec %s", in.KeySpec)
	case in.KeyUsage != spec.usage:
		return nil, invalid("The operation failed because the KeyUsage value %s is incompatible with the KeySpec %s", in.KeyUsage, in.KeySpec)
	case in.Policy == "":
		in.Policy = allowAll
	case !json.Valid([]byte(in.Policy)):
		return nil, awsproto.Errorf("MalformedPolicyDocumentException", "the policy is no JSON")
	}
	seen := map[string]bool{}
	for _, t := range in.Tags {
		if t.TagKey == "" || seen[t.TagKey] || strings.HasPrefix(t.TagKey, "aws:") {
			return nil, awsproto.Errorf("TagException", "tag keys are there, unique and not AWS's own: %q", t.TagKey)
		}
		seen[t.TagKey] = true
	}
	k := &key{
		id: uuid.NewString(), description: in.Description, policy: in.Policy, spec: in.KeySpec, usage: in.KeyUsage,
		state: stateEnabled, created: s.clock.Now(), tags: in.Tags,
	}
	if spec.generate != nil {
		var err error
		if k.signer, err = spec.generate(); err != nil {
			return nil, err
		}
	}
	s.keys[k.id] = k
	return keyOutput{k.metadata()}, nil
}

type keyInput struct {
	KeyID string `json:"KeyId"`
}

func (s *Service) describeKey(in keyInput) (any, error) {
	k, err := s.find(in.KeyID)
	if err != nil {
		return nil, err
	}
	return keyOutput{k.metadata()}, nil
}

type keyPolicyInput struct {
	KeyID      string `json:"KeyId"`
	PolicyName string
}

type keyPolicyOutput struct {
	Policy     string
	PolicyName string
}

func (s *Service) getKeyPolicy(in keyPolicyInput) (any, error) {
	k, err := s.findKey(in.KeyID)
	if err != nil {
		return nil, err
	}
	if in.PolicyName != "" && in.PolicyName != "default" {
		return nil, notFound("No such policy exists: %s", in.PolicyName)
	}
	return keyPolicyOutput{k.policy, "default"}, nil
}

type listTagsInput struct {
	KeyID string `json:"KeyId"`
	Limit *int
}

type listTagsOutput struct {
	Tags      []tag
	Truncated bool
}

func (s *Service) listResourceTags(in listTagsInput) (any, error) {
	k, err := s.findKey(in.KeyID)
	if err != nil {
		return nil, err
	}
	if in.Limit != nil && *in.Limit < len(k.tags) {
		return nil, awsproto.Errorf("UnsupportedOperationException", "the local KMS lists all tags of a key at once")
	}
	return listTagsOutput{Tags: append([]tag{}, k.tags...)}, nil
}
