package secretsmanager_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func TestC1_2_TokensHave32To64Characters(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	uses := map[string]func(token string) error{
		"PutSecretValue": func(token string) error { return f.put("s", token, "value of "+token, "MINE") },
		"GetSecretValue": func(token string) error { _, err := f.get("s", token, ""); return err },
		"UpdateSecret": func(token string) error {
			_, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: aws.String("s"), ClientRequestToken: &token, SecretString: &token})
			return err
		},
		"CreateSecret": func(token string) error {
			_, err := f.CreateSecret(f.ctx, &sm.CreateSecretInput{Name: &token, ClientRequestToken: &token, SecretString: &token})
			return err
		},
		"RotateSecret": func(token string) error {
			name := "rotates-" + token
			f.create(name, "one")
			_, err := f.RotateSecret(f.ctx, rotateInput(name, token))
			return err
		},
	}
	for name, use := range uses {
		for n, ok := range map[int]bool{31: false, 32: true, 64: true, 65: false} {
			err := use(strings.Repeat(name[:1], n))
			switch {
			case !ok:
				wantError(t, err, "InvalidParameterException", "32-64")
			case name == "GetSecretValue":
				wantError(t, err, "ResourceNotFoundException", "")
			case err != nil:
				t.Errorf("%s: %d characters: %v", name, n, err)
			}
		}
	}
}

// API reference, UpdateSecret: a token that is a version's id already is an
// error, whatever the value; to PutSecretValue the same value is a repetition.
func TestC3_5_UpdateSecretNeedsANewToken(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	v2 := f.mustPut("s", "two", "MINE")
	for _, value := range []string{"two", "other"} {
		_, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{
			SecretId: aws.String("s"), ClientRequestToken: &v2, SecretString: &value, Description: aws.String("new"),
		})
		wantError(t, err, "ResourceExistsException", v2)
	}
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, v2: {"MINE"}})
	if d := f.describe("s"); d.Description != nil {
		t.Errorf("a refused call has set the description to %s", *d.Description)
	}
}

// API reference, PutSecretValue: a value is required, and the answer lists the
// labels that the version has now.
func TestC3_6_PutSecretValueAnswersItsLabels(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	put := func(in sm.PutSecretValueInput) (*sm.PutSecretValueOutput, error) {
		in.SecretId = aws.String("s")
		return f.PutSecretValue(f.ctx, &in)
	}
	_, err := put(sm.PutSecretValueInput{})
	wantError(t, err, "InvalidRequestException", "SecretString or SecretBinary")
	_, err = put(sm.PutSecretValueInput{SecretString: aws.String("x"), SecretBinary: []byte("x")})
	wantError(t, err, "InvalidParameterException", "both a binary")
	out, err := put(sm.PutSecretValueInput{SecretString: aws.String("two"), VersionStages: []string{"MINE", "AWSPENDING"}})
	if err != nil || !slices.Equal(out.VersionStages, []string{"AWSPENDING", "MINE"}) {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = put(sm.PutSecretValueInput{SecretString: aws.String("three")})
	if err != nil || !slices.Equal(out.VersionStages, []string{"AWSCURRENT"}) {
		t.Errorf("%+v, %v", out, err)
	}
}

// PutSecretValue, UpdateSecret, labels and CancelRotateSecret, too: only the
// primary of a secret that nobody else manages can be changed.
func TestC2_6_OthersSecretsAreOnlyRead(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	for name, part := range map[string]string{"replica": "replica secret", "rds!cluster-1": "managed by another service"} {
		seed := secretsmanager.Seed{Name: name, Value: "v", OwningService: "rds"}
		if name == "replica" {
			seed = secretsmanager.Seed{Name: name, Value: "v", PrimaryRegion: "eu-west-1"}
		}
		f.service.Seed(seed)
		before := f.describe(name)
		_, updated := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: &name, Description: aws.String("mine")})
		_, cancelled := f.CancelRotateSecret(f.ctx, &sm.CancelRotateSecretInput{SecretId: &name})
		_, deleted := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: &name})
		_, forced := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: &name, ForceDeleteWithoutRecovery: aws.Bool(true)})
		var current string
		for id := range before.VersionIdsToStages {
			current = id
		}
		for _, err := range []error{f.put(name, uuid.NewString(), "two"), f.move(name, "MINE", current, ""), updated, cancelled, deleted, forced} {
			wantError(t, err, "InvalidRequestException", part)
		}
		if got, err := f.get(name, "", ""); got != "v" {
			t.Errorf("%s: read %q, %v", name, got, err)
		}
		if after := f.describe(name); after.DeletedDate != nil || after.Description != nil || !after.LastChangedDate.Equal(*before.LastChangedDate) {
			t.Errorf("%s was changed: %+v", name, after)
		}
	}
}
