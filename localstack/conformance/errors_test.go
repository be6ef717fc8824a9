package conformance_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/store/awssm"
)

func TestC7_9_EachErrorCodeHasItsClass(t *testing.T) {
	t.Parallel()
	a := embedded(t, secretsmanager.Behaviour{})
	s := a.create(t, "first")
	store := storeOf(a)
	for code, want := range map[string]bool{
		"InternalServiceError": true, "ThrottlingException": true, "TooManyRequestsException": true, "RequestTimeout": true,
		"RequestTimeoutException": true, "PriorRequestNotComplete": true, "LimitExceededException": true,
		"InvalidParameterException": false, "InvalidRequestException": false, "MalformedPolicyDocumentException": false,
		"PublicPolicyException": false, "ResourceNotFoundException": false, "PreconditionNotMetException": false,
		"DecryptionFailure": false, "EncryptionFailure": false,
	} {
		a.local.SecretsManager.SetFault(func(_ context.Context, action string, before bool) error {
			if before && action == "DescribeSecret" {
				return awsproto.Errorf(code, "told to fail")
			}
			return nil
		})
		_, err := store.Describe(t.Context(), s.arn)
		a.local.SecretsManager.SetFault(nil)
		if err == nil {
			t.Errorf("%s: no error", code)
			continue
		}
		if retried(err) != want {
			t.Errorf("%s: retried = %v by %v", code, retried(err), err)
		}
	}
	// The two that have a meaning of their own in a rotation.
	version := newVersion()
	if err := s.put(version, "second", pending); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.put(version, "third", pending), "ResourceExistsException", "")
	_, err := s.secrets.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: &s.arn, VersionStage: aws.String(previous)})
	wantCode(t, err, "ResourceNotFoundException", "")
}

func storeOf(a *account) *awssm.Store {
	cfg := clientConfig(a.local.Endpoint)
	cfg.RetryMaxAttempts = 1
	return &awssm.Store{API: sm.NewFromConfig(cfg), Region: a.region}
}

// retried reports whether a fault's class says that the step is tried again.
func retried(err error) bool { return fault.NameOf(err).Class() == fault.Retry }
