// Package kmssign answers: who vouches for a manifest of the audit trail?
//
// An asymmetric KMS key does, which never leaves KMS: who may write the whole
// bucket can't sign, and everybody can verify with the public key alone.
package kmssign

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// API is what is called of KMS.
type API interface {
	Sign(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
}

// Signer signs with an ECC_NIST_P256 key by ECDSA_SHA_256 (KMS developer guide,
// "asymmetric key specs").
type Signer struct {
	API API
	Key string // ARN
}

var _ audit.Signer = (*Signer)(nil)

// Sign implements audit.Signer.
func (s *Signer) Sign(ctx context.Context, digest []byte) (string, []byte, error) {
	out, err := s.API.Sign(ctx, &kms.SignInput{
		KeyId: &s.Key, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return "", nil, fmt.Errorf("signing with %s: %w", s.Key, err)
	}
	return aws.ToString(out.KeyId), out.Signature, nil
}

// PublicKeys is what is called of KMS to verify: it needs kms:GetPublicKey on the
// key, and nothing that signs.
type PublicKeys interface {
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

// Public fetches the public half of a key, by its ARN, in DER as [Verify] takes
// it. It may be kept: it never changes.
func Public(ctx context.Context, api PublicKeys, key string) ([]byte, error) {
	out, err := api.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		f := &fault.Error{Name: fault.Unavailable, Doing: "fetching the public half of key " + key, Err: err}
		var code smithy.APIError
		if errors.As(err, &code) {
			switch name := code.ErrorCode(); {
			case strings.HasPrefix(name, "AccessDenied"):
				f.Name, f.Hint = fault.PermissionDenied, "you need kms:GetPublicKey on it; or keep its public half in a file"
			case slices.Contains([]string{"NotFoundException", "InvalidArnException", "ValidationException", "DisabledException", "KMSInvalidStateException", "UnsupportedOperationException"}, name):
				f.Name, f.Hint = fault.InvalidInput, "give the ARN of the key that signs the manifests; of one that is deleted only its public half helps"
			}
		}
		return nil, f
	}
	return out.PublicKey, nil
}

// Verify checks a manifest with the key's public half, in DER as GetPublicKey
// returns it. It needs no AWS.
func Verify(m audit.Manifest, public []byte) error {
	key, err := parse(public)
	if err != nil {
		return err
	}
	digest, err := m.Digest()
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(key, digest, m.Signature) {
		return fault.New(fault.InvalidInput, "the manifest of %s isn't signed by this key, but says %s", m.Day, m.KeyID).
			WithHint("compare it with a copy that was kept elsewhere, and find out who could write to the bucket")
	}
	return nil
}

// CheckPublic refuses what isn't the public half of a key that signs manifests.
func CheckPublic(public []byte) error {
	_, err := parse(public)
	return err
}

func parse(public []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(public)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return nil, fault.New(fault.InvalidInput, "that is no public key of the manifests' kind").
			WithHint("aws kms get-public-key of the key that signs them writes it; decode its base64")
	}
	return key, nil
}
