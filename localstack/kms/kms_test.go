package kms_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	tests := []struct {
		what string
		in   sdk.CreateKeyInput
		code string
	}{
		{"symmetric that signs", sdk.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}, "ValidationException"},
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
