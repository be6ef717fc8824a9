package awssm_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// rule C2.2: a rotation that was never switched on isn't one that is off.
func TestDescribeTellsOffFromUnsaid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	enabled := func() *bool {
		d, err := f.Describe(t.Context(), f.arn)
		f.must(err)
		return d.RotationEnabled
	}
	if got := enabled(); got != nil {
		t.Errorf("never switched on: %v", *got)
	}
	_, err := f.api.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: &f.arn, RotationLambdaARN: aws.String("arn:aws:lambda:us-east-1:000000000000:function:x"),
	})
	f.must(err)
	if got := enabled(); got == nil || !*got {
		t.Error("switched on: not said")
	}
	_, err = f.api.CancelRotateSecret(t.Context(), &secretsmanager.CancelRotateSecretInput{SecretId: &f.arn})
	f.must(err)
	if got := enabled(); got == nil || *got {
		t.Error("switched off: not said")
	}
}

// rule C1.4: Secrets Manager judges the rotation token, so it must have got it.
func TestPutSendsTheRotationToken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := rotation.Change{Secret: f.arn, To: uuid.NewString(), RotationToken: rotation.NewValue(uuid.NewString())}
	f.wants(f.Put(t.Context(), c, rotation.NewValue("two")), fault.PermissionDenied)
	c.RotationToken = rotation.Value{}
	f.must(f.Put(t.Context(), c, rotation.NewValue("two")))
}

func TestDescribeShowsThePauseTag(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, tag := range []string{"team", "keyturn:pause"} {
		_, err := f.api.TagResource(t.Context(), &secretsmanager.TagResourceInput{
			SecretId: &f.arn, Tags: []types.Tag{{Key: &tag, Value: aws.String("")}},
		})
		f.must(err)
		d, err := f.Describe(t.Context(), f.arn)
		f.must(err)
		if want := tag == "keyturn:pause"; d.Paused != want {
			t.Errorf("with the tag %s: paused %v", tag, d.Paused)
		}
	}
}

func TestBinaryValuesAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	out, err := f.api.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &f.arn, SecretBinary: []byte{1}})
	f.must(err)
	_, err = f.Value(t.Context(), f.arn, *out.VersionId)
	f.wants(err, fault.InvalidInput)
	_, _, err = f.Current(t.Context(), f.arn)
	f.wants(err, fault.InvalidInput)
}

// Waiting makes no room for the 21st label of a secret.
func TestALabelTooManyIsForAPerson(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 19 {
		f.must(f.Attach(t.Context(), f.arn, rotation.Label(fmt.Sprint("blue", i)), f.first))
	}
	err := f.Attach(t.Context(), f.arn, rotation.Retiring, f.first)
	f.wants(err, fault.Blocked)
	if fault.HintOf(err) == "" {
		t.Errorf("no hint: %v", err)
	}
	f.must(f.Detach(t.Context(), f.arn, "blue7", f.first))
	f.must(f.Attach(t.Context(), f.arn, rotation.Retiring, f.first))
}
