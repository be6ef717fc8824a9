package kms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"hash"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
)

// verifies checks a signature without KMS.
func verifies(public any, algorithm types.SigningAlgorithmSpec, message, signature []byte) bool {
	h, id := map[string]func() hash.Hash{"256": sha256.New, "384": sha512.New384, "512": sha512.New},
		map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	size := string(algorithm[len(algorithm)-3:])
	sum := h[size]()
	sum.Write(message)
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, sum.Sum(nil), signature)
	case *rsa.PublicKey:
		if strings.Contains(string(algorithm), "PSS") {
			return rsa.VerifyPSS(public, id[size], sum.Sum(nil), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, id[size], sum.Sum(nil), signature) == nil
	}
	return false
}

// Developer guide, "Key spec reference": each spec with its algorithms.
func TestEachKeySignsByItsOwnAlgorithms(t *testing.T) {
	t.Parallel()
	f := start(t)
	own := map[types.KeySpec][]types.SigningAlgorithmSpec{
		types.KeySpecEccNistP256: {types.SigningAlgorithmSpecEcdsaSha256},
		types.KeySpecEccNistP384: {types.SigningAlgorithmSpecEcdsaSha384},
		types.KeySpecRsa2048: {
			types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, types.SigningAlgorithmSpecRsassaPkcs1V15Sha512,
			types.SigningAlgorithmSpecRsassaPssSha256, types.SigningAlgorithmSpecRsassaPssSha384, types.SigningAlgorithmSpecRsassaPssSha512,
		},
	}
	message := []byte("a manifest of the day")
	for spec, algorithms := range own {
		k := f.key(spec)
		public, err := f.GetPublicKey(f.ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParsePKIXPublicKey(public.PublicKey)
		if err != nil || public.KeySpec != spec || public.KeyUsage != types.KeyUsageTypeSignVerify || *public.KeyId != *k.Arn {
			t.Fatalf("%+v, %v", public, err)
		}
		if diff := cmp.Diff(algorithms, public.SigningAlgorithms); diff != "" {
			t.Errorf("%s (-want +got):\n%s", spec, diff)
		}
		for _, all := range own {
			for _, algorithm := range all {
				signature, err := f.sign(*k.KeyId, algorithm, "", message)
				if !slices.Contains(algorithms, algorithm) {
					wantCode(t, err, "InvalidKeyUsageException")
					continue
				}
				if err != nil || !verifies(parsed, algorithm, message, signature) {
					t.Errorf("%s by %s doesn't verify outside: %v", spec, algorithm, err)
				}
				out, err := f.Verify(f.ctx, &sdk.VerifyInput{KeyId: k.Arn, SigningAlgorithm: algorithm, Message: message, Signature: signature})
				if err != nil || !out.SignatureValid || *out.KeyId != *k.Arn {
					t.Errorf("%s by %s: %+v, %v", spec, algorithm, out, err)
				}
				_, err = f.Verify(f.ctx, &sdk.VerifyInput{KeyId: k.Arn, SigningAlgorithm: algorithm, Message: []byte("another"), Signature: signature})
				wantCode(t, err, "KMSInvalidSignatureException")
			}
		}
	}
}

func TestADigestIsSignedAsItsMessage(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	message := []byte("m")
	digest := sha256.Sum256(message)
	signature, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, types.MessageTypeDigest, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(f.ctx, &sdk.VerifyInput{
		KeyId: k.KeyId, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, MessageType: types.MessageTypeRaw, Message: message, Signature: signature,
	}); err != nil {
		t.Error(err)
	}
	_, err = f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, types.MessageTypeDigest, digest[:31])
	wantCode(t, err, "ValidationException")
}

// Developer guide, "Key spec reference": a symmetric key neither signs nor shows
// itself.
func TestASymmetricKeyDoesNotSign(t *testing.T) {
	t.Parallel()
	f := start(t)
	out, err := f.CreateKey(f.ctx, &sdk.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	m := out.KeyMetadata
	if m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.SigningAlgorithms != nil ||
		!cmp.Equal(m.EncryptionAlgorithms, []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecSymmetricDefault}) {
		t.Errorf("%+v", m)
	}
	_, err = f.sign(*m.KeyId, types.SigningAlgorithmSpecEcdsaSha256, "", []byte("m"))
	wantCode(t, err, "InvalidKeyUsageException")
	_, err = f.GetPublicKey(f.ctx, &sdk.GetPublicKeyInput{KeyId: m.KeyId})
	wantCode(t, err, "UnsupportedOperationException")
	signer := f.key(types.KeySpecEccNistP256)
	if _, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: m.KeyId}); err != nil {
		t.Fatal(err)
	}
	_, err = f.UpdateAlias(f.ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: signer.KeyId})
	wantCode(t, err, "ValidationException")
}

// API reference, Sign: a raw message has 1 to 4096 bytes.
func TestRawMessagesAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	for size, want := range map[int]string{1: "", 4096: "", 4097: "ValidationException", 0: "ValidationException"} {
		message := make([]byte, size)
		_, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, types.MessageTypeRaw, message)
		if code(err) != want {
			t.Errorf("%d bytes: %v, want %q", size, err, want)
		}
	}
	_, err := f.sign(*k.KeyId, "ECDSA_SHA_1024", "", []byte("m"))
	wantCode(t, err, "ValidationException")
	_, err = f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, types.MessageTypeExternalMu, make([]byte, 32))
	wantCode(t, err, "ValidationException")
}
