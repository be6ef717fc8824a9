// Package kmssign answers: who vouches for a manifest of the audit trail?
//
// An asymmetric KMS key does, which never leaves KMS: who may write the whole
// bucket can't sign, and everybody can verify with the public key alone.
package kmssign

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

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

// Verify checks a manifest with the key's public half, in DER as GetPublicKey
// returns it. It needs no AWS.
func Verify(m audit.Manifest, public []byte) error {
	parsed, err := x509.ParsePKIXPublicKey(public)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return fault.New(fault.InvalidInput, "that is no public key of the manifests' kind").
			WithHint("aws kms get-public-key of the key that signs them writes it; decode its base64")
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
