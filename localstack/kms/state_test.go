package kms_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
)

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
