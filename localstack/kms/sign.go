package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const (
	signVerify     = "SIGN_VERIFY"
	encryptDecrypt = "ENCRYPT_DECRYPT"
	symmetric      = "SYMMETRIC_DEFAULT"
)

// keySpec is one kind of key: what it is for, how one is made, and what it signs
// by.
type keySpec struct {
	usage      string
	generate   func() (crypto.Signer, error) // nil: it doesn't sign
	algorithms []string
}

func newECDSA(c elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		return k, nil
	}
}

func newRSA(bits int) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		return k, nil
	}
}

// specs are the kinds of keys (developer guide, "Key spec reference").
var specs = map[string]keySpec{
	symmetric:       {usage: encryptDecrypt},
	"ECC_NIST_P256": {signVerify, newECDSA(elliptic.P256()), []string{"ECDSA_SHA_256"}},
	"ECC_NIST_P384": {signVerify, newECDSA(elliptic.P384()), []string{"ECDSA_SHA_384"}},
	"RSA_2048": {signVerify, newRSA(2048), []string{
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	}},
}

// hashes are the digests by the ends of the algorithms' names.
var hashes = map[string]crypto.Hash{"SHA_256": crypto.SHA256, "SHA_384": crypto.SHA384, "SHA_512": crypto.SHA512}

// hashOf is the digest of an algorithm that some key signs by, or 0.
func hashOf(algorithm string) crypto.Hash {
	if !slices.ContainsFunc(slices.Collect(maps.Values(specs)), func(s keySpec) bool { return slices.Contains(s.algorithms, algorithm) }) {
		return 0
	}
	for end, h := range hashes {
		if strings.HasSuffix(algorithm, end) {
			return h
		}
	}
	return 0
}

// maxMessage is the longest raw message, and the longest signature that Verify
// takes, in bytes.
const (
	maxMessage   = 4096
	maxSignature = 6144
)

// signing is what Sign and Verify have in common.
type signing struct {
	KeyID            string `json:"KeyId"`
	Message          []byte
	MessageType      string
	SigningAlgorithm string
}

// prepare finds the key and makes the digest that is signed.
func (s *Service) prepare(in signing) (*key, []byte, error) {
	if n := len(in.Message); n < 1 || n > maxMessage {
		return nil, nil, invalid("1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length of 1 to %d", maxMessage)
	}
	hash := hashOf(in.SigningAlgorithm)
	if hash == 0 {
		return nil, nil, invalid("1 validation error detected: Value at 'signingAlgorithm' failed to satisfy constraint: %q is no algorithm of the local KMS", in.SigningAlgorithm)
	}
	if in.MessageType != "" && in.MessageType != "RAW" && in.MessageType != "DIGEST" {
		return nil, nil, invalid("1 validation error detected: Value at 'messageType' failed to satisfy constraint: RAW or DIGEST")
	}
	k, err := s.find(in.KeyID)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, nil, err
	}
	if k.usage != signVerify {
		return nil, nil, awsproto.Errorf("InvalidKeyUsageException", "%s key usage is %s which is not valid for signing.", k.arn(), k.usage)
	}
	if !slices.Contains(specs[k.spec].algorithms, in.SigningAlgorithm) {
		return nil, nil, awsproto.Errorf("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", in.SigningAlgorithm, k.spec)
	}
	if in.MessageType == "DIGEST" {
		if len(in.Message) != hash.Size() {
			return nil, nil, invalid("Digest is invalid length for algorithm %s.", in.SigningAlgorithm)
		}
		return k, in.Message, nil
	}
	h := hash.New()
	_, _ = h.Write(in.Message) // a hash takes everything
	return k, h.Sum(nil), nil
}

type signOutput struct {
	KeyID            string `json:"KeyId"` // the ARN
	Signature        []byte
	SigningAlgorithm string
}

func (s *Service) sign(in signing) (any, error) {
	k, digest, err := s.prepare(in)
	if err != nil {
		return nil, err
	}
	signature, err := k.signer.Sign(rand.Reader, digest, options(in.SigningAlgorithm))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return signOutput{k.arn(), signature, in.SigningAlgorithm}, nil
}

// options are those of crypto.Signer; the salt of PSS is as long as the digest.
func options(algorithm string) crypto.SignerOpts {
	if strings.HasPrefix(algorithm, "RSASSA_PSS") {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashOf(algorithm)}
	}
	return hashOf(algorithm)
}

type verifyInput struct {
	signing
	Signature []byte
}

type verifyOutput struct {
	KeyID            string `json:"KeyId"` // the ARN
	SignatureValid   bool
	SigningAlgorithm string
}

// verify answers true or KMSInvalidSignatureException, never false.
func (s *Service) verify(in verifyInput) (any, error) {
	if n := len(in.Signature); n < 1 || n > maxSignature {
		return nil, invalid("1 validation error detected: Value at 'signature' failed to satisfy constraint: Member must have length of 1 to %d", maxSignature)
	}
	k, digest, err := s.prepare(in.signing)
	if err != nil {
		return nil, err
	}
	valid := false
	switch public := k.signer.Public().(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(public, digest, in.Signature)
	case *rsa.PublicKey:
		if pss, ok := options(in.SigningAlgorithm).(*rsa.PSSOptions); ok {
			valid = rsa.VerifyPSS(public, pss.Hash, digest, in.Signature, pss) == nil
		} else {
			valid = rsa.VerifyPKCS1v15(public, hashOf(in.SigningAlgorithm), digest, in.Signature) == nil
		}
	}
	if !valid {
		return nil, awsproto.Errorf("KMSInvalidSignatureException", "the signature is not that of this message by this key")
	}
	return verifyOutput{k.arn(), true, in.SigningAlgorithm}, nil
}

type publicKeyOutput struct {
	CustomerMasterKeySpec string
	KeyID                 string `json:"KeyId"` // the ARN
	KeySpec               string
	KeyUsage              string
	PublicKey             []byte // DER, SubjectPublicKeyInfo (RFC 5280)
	SigningAlgorithms     []string
}

func (s *Service) getPublicKey(in keyInput) (any, error) {
	k, err := s.find(in.KeyID)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, err
	}
	if k.signer == nil {
		return nil, awsproto.Errorf("UnsupportedOperationException", "%s is a symmetric key: nobody sees it.", k.arn())
	}
	der, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	return publicKeyOutput{k.spec, k.arn(), k.spec, k.usage, der, specs[k.spec].algorithms}, nil
}
