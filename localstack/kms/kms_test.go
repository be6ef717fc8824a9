package kms_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"errors"
	"hash"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/kms"
)

const day = 24 * time.Hour

// fixture is a KMS behind HTTP with a real SDK client and a recording bus.
type fixture struct {
	*sdk.Client
	t       *testing.T
	ctx     context.Context
	clock   *clock.Clock
	service *kms.Service

	mu     sync.Mutex
	events []host.Event
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), clock: clock.New()}
	f.service = kms.New(kms.Config{Clock: f.clock, Bus: f})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		awsproto.ServeJSON(w, awsproto.WithCaller(r), f.service)
	}))
	t.Cleanup(server.Close)
	f.Client = sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	return f
}

func (f *fixture) Publish(e host.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

func (f *fixture) key(spec types.KeySpec) *types.KeyMetadata {
	f.t.Helper()
	out, err := f.CreateKey(f.ctx, &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (f *fixture) sign(id string, algorithm types.SigningAlgorithmSpec, kind types.MessageType, message []byte) ([]byte, error) {
	out, err := f.Sign(f.ctx, &sdk.SignInput{KeyId: &id, SigningAlgorithm: algorithm, MessageType: kind, Message: message})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

func (f *fixture) state(id string) types.KeyState {
	f.t.Helper()
	out, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: &id})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.KeyMetadata.KeyState
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

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

// Developer guide, "Key states of AWS KMS keys".
func TestKeyStatesRefuse(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	other := f.key(types.KeySpecEccNistP256)
	signature, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, "", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/other"), TargetKeyId: other.KeyId}); err != nil {
		t.Fatal(err)
	}
	calls := []struct {
		name               string
		call               func() error
		disabled, deleting string
	}{
		{"Sign", func() error {
			_, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, "", []byte("m"))
			return err
		}, "DisabledException", "KMSInvalidStateException"},
		{"Verify", func() error {
			_, err := f.Verify(f.ctx, &sdk.VerifyInput{KeyId: k.KeyId, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("m"), Signature: signature})
			return err
		}, "DisabledException", "KMSInvalidStateException"},
		{"GetPublicKey", func() error { _, err := f.GetPublicKey(f.ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId}); return err },
			"DisabledException", "KMSInvalidStateException"},
		{"DescribeKey", func() error { _, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); return err }, "", ""},
		{"UpdateAlias", func() error {
			_, err := f.UpdateAlias(f.ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/other"), TargetKeyId: k.KeyId})
			return err
		}, "", "KMSInvalidStateException"},
		{"CreateAlias", func() error {
			_, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/new"), TargetKeyId: k.KeyId})
			return err
		}, "", "KMSInvalidStateException"},
	}
	if _, err := f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: k.Arn}); err != nil {
		t.Fatal(err)
	}
	if got := f.state(*k.KeyId); got != types.KeyStateDisabled {
		t.Errorf("state %s", got)
	}
	for _, c := range calls {
		if err := c.call(); code(err) != c.disabled {
			t.Errorf("%s of a disabled key: %v, want %q", c.name, err, c.disabled)
		}
	}
	if _, err := f.EnableKey(f.ctx, &sdk.EnableKeyInput{KeyId: k.KeyId}); err != nil || calls[0].call() != nil {
		t.Errorf("an enabled key doesn't sign: %v", err)
	}
	if _, err := f.ScheduleKeyDeletion(f.ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId}); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if err := c.call(); code(err) != c.deleting {
			t.Errorf("%s of a key that is being deleted: %v, want %q", c.name, err, c.deleting)
		}
	}
	_, err = f.EnableKey(f.ctx, &sdk.EnableKeyInput{KeyId: k.KeyId})
	wantCode(t, err, "KMSInvalidStateException")
	_, err = f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: k.KeyId})
	wantCode(t, err, "KMSInvalidStateException")
	_, err = f.ScheduleKeyDeletion(f.ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	wantCode(t, err, "KMSInvalidStateException")
}

// API reference, ScheduleKeyDeletion and CancelKeyDeletion.
func TestKeysAreDeletedAfterTheirWaitingPeriod(t *testing.T) {
	t.Parallel()
	f := start(t)
	kept, gone := f.key(types.KeySpecEccNistP256), f.key(types.KeySpecEccNistP256)
	for _, days := range []int32{6, 31, 0} {
		_, err := f.ScheduleKeyDeletion(f.ctx, &sdk.ScheduleKeyDeletionInput{KeyId: kept.KeyId, PendingWindowInDays: &days})
		wantCode(t, err, "ValidationException")
	}
	_, err := f.CancelKeyDeletion(f.ctx, &sdk.CancelKeyDeletionInput{KeyId: kept.KeyId})
	wantCode(t, err, "KMSInvalidStateException")
	if _, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/gone"), TargetKeyId: gone.KeyId}); err != nil {
		t.Fatal(err)
	}
	before := f.clock.Now()
	for _, k := range []*types.KeyMetadata{kept, gone} {
		out, err := f.ScheduleKeyDeletion(f.ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: aws.Int32(7)})
		if err != nil || *out.KeyId != *k.Arn || out.KeyState != types.KeyStatePendingDeletion || *out.PendingWindowInDays != 7 ||
			out.DeletionDate.Before(before.Add(7*day-time.Second)) || out.DeletionDate.After(f.clock.Now().Add(7*day)) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	out, err := f.CancelKeyDeletion(f.ctx, &sdk.CancelKeyDeletionInput{KeyId: kept.KeyId})
	if err != nil || *out.KeyId != *kept.Arn || f.state(*kept.KeyId) != types.KeyStateDisabled {
		t.Errorf("%+v, %v", out, err)
	}
	f.clock.Advance(7*day - time.Minute)
	if got := f.state("alias/gone"); got != types.KeyStatePendingDeletion {
		t.Errorf("state %s", got)
	}
	f.clock.Advance(2 * time.Minute)
	for _, id := range []string{*gone.KeyId, *gone.Arn, "alias/gone"} {
		_, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: &id})
		wantCode(t, err, "NotFoundException")
	}
	if aliases, err := f.ListAliases(f.ctx, &sdk.ListAliasesInput{}); err != nil || len(aliases.Aliases) != 0 {
		t.Errorf("%+v, %v", aliases, err)
	}
	if got := f.state(*kept.KeyId); got != types.KeyStateDisabled {
		t.Errorf("state %s", got)
	}
}

func TestKeysAreNamedByIdARNAndAlias(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	const name, aliasARN = "alias/keyturn/audit", "arn:aws:kms:us-east-1:000000000000:alias/keyturn/audit"
	if _, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: aws.String(name), TargetKeyId: k.Arn}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{*k.KeyId, *k.Arn, name, aliasARN} {
		out, err := f.Sign(f.ctx, &sdk.SignInput{KeyId: &id, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("m")})
		if err != nil || *out.KeyId != *k.Arn {
			t.Errorf("Sign by %s: %v", id, err)
		}
		got, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: &id})
		if err != nil || *got.KeyMetadata.KeyId != *k.KeyId {
			t.Errorf("DescribeKey by %s: %v", id, err)
		}
	}
	// Actions that change a key take no alias.
	_, err := f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: aws.String(name)})
	wantCode(t, err, "NotFoundException")
	_, err = f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: aws.String(aliasARN)})
	wantCode(t, err, "InvalidArnException")
	for _, id := range []string{
		"00000000-0000-4000-8000-000000000000", "nonsense", "alias/none", "arn:aws:kms:us-east-1:000000000000:alias/none",
		"arn:aws:kms:eu-west-1:000000000000:key/" + *k.KeyId, "key/" + *k.KeyId,
	} {
		_, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: &id})
		if code(err) != "NotFoundException" {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestAliasesMoveBetweenKeys(t *testing.T) {
	t.Parallel()
	f := start(t)
	one, two := f.key(types.KeySpecEccNistP256), f.key(types.KeySpecRsa2048)
	create := func(name, target string) error {
		_, err := f.CreateAlias(f.ctx, &sdk.CreateAliasInput{AliasName: &name, TargetKeyId: &target})
		return err
	}
	if err := create("alias/a", *one.KeyId); err != nil {
		t.Fatal(err)
	}
	wantCode(t, create("alias/a", *two.KeyId), "AlreadyExistsException")
	wantCode(t, create("a", *one.KeyId), "InvalidAliasNameException")
	wantCode(t, create("alias/", *one.KeyId), "InvalidAliasNameException")
	wantCode(t, create("alias/aws/x", *one.KeyId), "InvalidAliasNameException")
	wantCode(t, create("alias/a b", *one.KeyId), "InvalidAliasNameException")
	wantCode(t, create("alias/b", "alias/a"), "ValidationException")
	wantCode(t, create("alias/b", "00000000-0000-4000-8000-000000000000"), "NotFoundException")
	if _, err := f.UpdateAlias(f.ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: two.KeyId}); err != nil {
		t.Fatal(err)
	}
	if out, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: aws.String("alias/a")}); err != nil || *out.KeyMetadata.KeyId != *two.KeyId {
		t.Errorf("%+v, %v", out, err)
	}
	_, err := f.UpdateAlias(f.ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/none"), TargetKeyId: two.KeyId})
	wantCode(t, err, "NotFoundException")
	for _, name := range []string{"alias/c", "alias/b"} {
		if err := create(name, *one.KeyId); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := sdk.NewListAliasesPaginator(f.Client, &sdk.ListAliasesInput{Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Aliases {
			names = append(names, *a.AliasName+" "+*a.TargetKeyId)
		}
	}
	want := []string{"alias/a " + *two.KeyId, "alias/b " + *one.KeyId, "alias/c " + *one.KeyId}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
	if of, err := f.ListAliases(f.ctx, &sdk.ListAliasesInput{KeyId: one.Arn}); err != nil || len(of.Aliases) != 2 || of.Truncated {
		t.Errorf("%+v, %v", of, err)
	}
	if _, err := f.DeleteAlias(f.ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/a")}); err != nil {
		t.Fatal(err)
	}
	_, err = f.DeleteAlias(f.ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/a")})
	wantCode(t, err, "NotFoundException")
	if got := f.state(*two.KeyId); got != types.KeyStateEnabled {
		t.Errorf("a deleted alias changed its key: %s", got)
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	tests := []struct {
		what string
		in   sdk.CreateKeyInput
		code string
	}{
		{"symmetric", sdk.CreateKeyInput{}, "UnsupportedOperationException"},
		{"another spec", sdk.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, "UnsupportedOperationException"},
		{"without a usage", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256}, "ValidationException"},
		{"RSA that encrypts", sdk.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt}, "ValidationException"},
		{"imported", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Origin: types.OriginTypeExternal}, "UnsupportedOperationException"},
		{"several Regions", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, MultiRegion: aws.Bool(true)}, "UnsupportedOperationException"},
		{"a custom store", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, CustomKeyStoreId: aws.String("x")}, "SerializationException"},
		{"a policy that is no JSON", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Policy: aws.String("x")}, "MalformedPolicyDocumentException"},
		{"a tag twice", sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Tags: []types.Tag{
			{TagKey: aws.String("a"), TagValue: aws.String("1")}, {TagKey: aws.String("a"), TagValue: aws.String("2")},
		}}, "TagException"},
	}
	for _, tt := range tests {
		if _, err := f.CreateKey(f.ctx, &tt.in); code(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.what, err, tt.code)
		}
	}
	k := f.key(types.KeySpecEccNistP256)
	_, err := f.Sign(f.ctx, &sdk.SignInput{
		KeyId: k.KeyId, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("m"), GrantTokens: []string{"x"},
	})
	wantCode(t, err, "SerializationException")
	_, err = f.Encrypt(f.ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")})
	wantCode(t, err, "UnknownOperationException")
}

func TestAKeyKeepsWhatItWasMadeWith(t *testing.T) {
	t.Parallel()
	f := start(t)
	const policy = `{"Version":"2012-10-17","Statement":[]}`
	out, err := f.CreateKey(f.ctx, &sdk.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Description: aws.String("manifests"), Policy: aws.String(policy),
		Tags: []types.Tag{{TagKey: aws.String("app"), TagValue: aws.String("keyturn")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := out.KeyMetadata
	if *m.Description != "manifests" || m.KeySpec != types.KeySpecEccNistP256 || m.KeyUsage != types.KeyUsageTypeSignVerify || !m.Enabled ||
		m.KeyState != types.KeyStateEnabled || m.Origin != types.OriginTypeAwsKms || m.KeyManager != types.KeyManagerTypeCustomer || aws.ToBool(m.MultiRegion) ||
		*m.AWSAccountId != awsproto.Account || *m.Arn != "arn:aws:kms:us-east-1:000000000000:key/"+*m.KeyId || m.DeletionDate != nil {
		t.Errorf("%+v", m)
	}
	p, err := f.GetKeyPolicy(f.ctx, &sdk.GetKeyPolicyInput{KeyId: m.KeyId})
	if err != nil || *p.Policy != policy {
		t.Errorf("%+v, %v", p, err)
	}
	tags, err := f.ListResourceTags(f.ctx, &sdk.ListResourceTagsInput{KeyId: m.KeyId})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "app" {
		t.Errorf("%+v, %v", tags, err)
	}
}

func TestCallsAreInTheTrailWithoutWhatWasSigned(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	if _, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, "", []byte("canary")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: k.KeyId}); err != nil {
		t.Fatal(err)
	}
	_, err := f.sign(*k.KeyId, types.SigningAlgorithmSpecEcdsaSha256, "", []byte("canary"))
	wantCode(t, err, "DisabledException")
	type call struct {
		Name, Error string
		ReadOnly    bool
		Keys        int
	}
	var got []call
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		var d struct {
			EventName, EventSource, ErrorCode string
			ReadOnly                          bool
			RequestParameters                 map[string]any
			Resources                         []struct{ ARN string }
		}
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			t.Fatal(err)
		}
		if e.Source != "aws.kms" || d.EventSource != "kms.amazonaws.com" || strings.Contains(string(e.Detail), "Y2FuYXJ5") {
			t.Errorf("%s %s", e.Source, e.Detail)
		}
		if d.EventName == "DisableKey" && (d.RequestParameters["keyId"] != *k.KeyId || d.Resources[0].ARN != *k.Arn) {
			t.Errorf("%s", e.Detail)
		}
		got = append(got, call{d.EventName, d.ErrorCode, d.ReadOnly, len(d.Resources)})
	}
	want := []call{{"CreateKey", "", false, 0}, {"Sign", "", true, 1}, {"DisableKey", "", false, 1}, {"Sign", "DisabledException", true, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestFaultsComeBeforeAndAfterEachAction(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.key(types.KeySpecEccNistP256)
	for _, before := range []bool{true, false} {
		f.service.SetFault(func(_ context.Context, action string, b bool) error {
			if action == "DisableKey" && b == before {
				return &awsproto.Error{Code: "KMSInternalException", Message: "try again", Status: http.StatusInternalServerError}
			}
			return nil
		})
		_, err := f.DisableKey(f.ctx, &sdk.DisableKeyInput{KeyId: k.KeyId})
		wantCode(t, err, "KMSInternalException")
		want := types.KeyStateDisabled
		if before {
			want = types.KeyStateEnabled
		}
		if got := f.state(*k.KeyId); got != want {
			t.Errorf("before %v: %s, want %s", before, got, want)
		}
	}
}
