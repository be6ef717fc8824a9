package awssm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

// answering is Secrets Manager as far as it can be told what to answer, where
// the local one can't be brought to it.
type answering struct {
	awssm.API // nil: any other call fails the test by a panic
	err       error
	described *secretsmanager.DescribeSecretOutput
	blind     error // what DescribeSecret answers instead
	pages     []*secretsmanager.ListSecretsOutput
	listed    int
}

func (a *answering) DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	switch {
	case a.blind != nil:
		return nil, a.blind
	case a.described != nil:
		return a.described, nil
	}
	return nil, a.err
}

func (a *answering) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return nil, a.err
}

func (a *answering) UpdateSecretVersionStage(context.Context, *secretsmanager.UpdateSecretVersionStageInput, ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	return nil, a.err
}

func (a *answering) RotateSecret(context.Context, *secretsmanager.RotateSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.RotateSecretOutput, error) {
	return nil, a.err
}

func (a *answering) ListSecrets(_ context.Context, in *secretsmanager.ListSecretsInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretsOutput, error) {
	if a.listed > 20 {
		return nil, errors.New("the pages never end")
	}
	page := a.pages[min(a.listed, len(a.pages)-1)]
	a.listed++
	if aws.ToInt32(in.MaxResults) != 100 || !aws.ToBool(in.IncludePlannedDeletion) {
		return nil, errors.New("not the request that was wanted")
	}
	return page, nil
}

func refusal(code string, by smithy.ErrorFault) error {
	return &smithy.GenericAPIError{Code: code, Message: "no", Fault: by}
}

// rule C7.9, and the codes that every AWS service has (API reference, "Common
// errors"). What isn't known is the client's fault, or passes.
func TestEachErrorCodeHasItsName(t *testing.T) {
	t.Parallel()
	const client, server = smithy.FaultClient, smithy.FaultServer
	for _, tt := range []struct {
		err  error
		want fault.Name
	}{
		{refusal("ThrottlingException", client), fault.Throttled},
		{refusal("Throttling", client), fault.Throttled},
		{refusal("TooManyRequestsException", client), fault.Throttled},
		{refusal("LimitExceededException", client), fault.Throttled},
		{refusal("RequestLimitExceeded", client), fault.Throttled},
		{refusal("PriorRequestNotComplete", client), fault.Throttled},
		{refusal("InternalServiceError", server), fault.Unavailable},
		{refusal("InternalServiceErrorException", server), fault.Unavailable},
		{refusal("RequestTimeout", client), fault.Unavailable},
		{refusal("RequestTimeoutException", client), fault.Unavailable},
		{refusal("ServiceUnavailable", server), fault.Unavailable},
		{refusal("InvalidParameterException", client), fault.InvalidInput},
		{refusal("ResourceNotFoundException", client), fault.InvalidInput},
		{refusal("InvalidRequestException", client), fault.RotationDisabled},
		{refusal("MalformedPolicyDocumentException", client), fault.Internal},
		{refusal("PreconditionNotMetException", client), fault.Internal},
		{refusal("DecryptionFailure", client), fault.PermissionDenied},
		{refusal("EncryptionFailure", client), fault.PermissionDenied},
		{refusal("AccessDeniedException", client), fault.PermissionDenied},
		{refusal("UnrecognizedClientException", client), fault.PermissionDenied},
		{refusal("ExpiredTokenException", client), fault.PermissionDenied},
		{refusal("NewlyInventedException", client), fault.Internal},
		{refusal("NewlyInventedException", server), fault.Unavailable},
		{errors.New("connection reset by peer"), fault.Unavailable},
		{context.DeadlineExceeded, fault.Ambiguous},
		{context.Canceled, fault.Ambiguous},
	} {
		store := &awssm.Store{API: &answering{err: tt.err}, Region: "us-east-1"}
		_, err := store.Describe(t.Context(), "s")
		if !fault.Is(err, tt.want) {
			t.Errorf("%v: %v, want %s", tt.err, err, tt.want)
		}
		if named := tt.want == fault.PermissionDenied || tt.want == fault.RotationDisabled; named && fault.HintOf(err) == "" {
			t.Errorf("%v: it isn't said what to do", tt.err)
		}
	}
}

// Only a value that isn't there is a stage that isn't: a secret that is being
// deleted has another name (API reference, GetSecretValue).
func TestAValueThatCantBeReadNow(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]fault.Name{
		"ResourceNotFoundException": fault.InvalidStage, "InvalidRequestException": fault.RotationDisabled,
		"DecryptionFailure": fault.PermissionDenied,
	} {
		store := &awssm.Store{API: &answering{err: refusal(code, smithy.FaultClient)}}
		if _, err := store.Value(t.Context(), "s", "v"); !fault.Is(err, want) {
			t.Errorf("%s: %v, want %s", code, err, want)
		}
	}
}

// A label write that was refused is judged by what the labels then show, and by
// nothing if they can't be seen.
func TestARefusedLabelWriteIsJudgedByTheLabels(t *testing.T) {
	t.Parallel()
	const mine, theirs = "mine", "theirs"
	shown := func(version string) *secretsmanager.DescribeSecretOutput {
		return &secretsmanager.DescribeSecretOutput{VersionIdsToStages: map[string][]string{version: {string(rotation.Retiring)}, "x": nil}}
	}
	client := refusal("InvalidParameterException", smithy.FaultClient)
	for name, tt := range map[string]struct {
		api    *answering
		attach fault.Name // "": success
		detach fault.Name
	}{
		"it is mine":           {&answering{err: client, described: shown(mine)}, "", fault.Conflict},
		"it is another's":      {&answering{err: client, described: shown(theirs)}, fault.Conflict, ""},
		"a refused request":    {&answering{err: refusal("InvalidRequestException", smithy.FaultClient), described: shown(theirs)}, fault.Conflict, ""},
		"a throttle":           {&answering{err: refusal("ThrottlingException", smithy.FaultClient), described: shown(theirs)}, fault.Throttled, ""},
		"nobody can look":      {&answering{err: client, blind: errors.New("reset")}, fault.Conflict, fault.Conflict},
		"lost, nobody can see": {&answering{err: refusal("InternalServiceError", smithy.FaultServer), blind: errors.New("reset")}, fault.Unavailable, fault.Unavailable},
	} {
		store := &awssm.Store{API: tt.api}
		for what, got := range map[string]struct {
			err  error
			want fault.Name
		}{
			"attach": {store.Attach(t.Context(), "s", rotation.Retiring, mine), tt.attach},
			"detach": {store.Detach(t.Context(), "s", rotation.Retiring, mine), tt.detach},
		} {
			if (got.err == nil) != (got.want == "") || got.err != nil && !fault.Is(got.err, got.want) {
				t.Errorf("%s: %s: %v, want %q", name, what, got.err, got.want)
			}
		}
	}
}

// One code says three things about a rotation; the labels tell them apart.
func TestARefusedRotationIsJudgedByTheLabels(t *testing.T) {
	t.Parallel()
	refused := refusal("InvalidRequestException", smithy.FaultClient)
	labelled := func(labels map[string][]string) *answering {
		return &answering{err: refused, described: &secretsmanager.DescribeSecretOutput{VersionIdsToStages: labels}}
	}
	for name, tt := range map[string]struct {
		api  *answering
		want fault.Name
	}{
		"ours is pending":               {labelled(map[string][]string{"token": {"AWSPENDING"}}), ""},
		"another is":                    {labelled(map[string][]string{"a": {"AWSPENDING"}, "b": {"AWSCURRENT"}}), fault.RotationInProgress},
		"one that is over":              {labelled(map[string][]string{"a": {"AWSPENDING", "AWSCURRENT"}}), fault.RotationDisabled},
		"none":                          {labelled(map[string][]string{"a": {"AWSCURRENT"}}), fault.RotationDisabled},
		"nobody can look":               {&answering{err: refused, blind: refusal("ThrottlingException", smithy.FaultClient)}, fault.Throttled},
		"what isn't a refused rotation": {&answering{err: refusal("AccessDeniedException", smithy.FaultClient)}, fault.PermissionDenied},
	} {
		err := (&awssm.Store{API: tt.api}).Rotate(t.Context(), "s", "token")
		if (err == nil) != (tt.want == "") || err != nil && !fault.Is(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// What a description says, from DescribeSecret as from a page of ListSecrets.
func TestWhatADescriptionSays(t *testing.T) {
	t.Parallel()
	last, next := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC)
	tags := []types.Tag{{Key: aws.String("keyturn:pause")}, {Key: aws.String("team")}}
	rules := &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(7)}
	api := &answering{
		described: &secretsmanager.DescribeSecretOutput{LastRotatedDate: &last, NextRotationDate: &next, Tags: tags, RotationRules: rules, DeletedDate: &next},
		pages: []*secretsmanager.ListSecretsOutput{{SecretList: []types.SecretListEntry{
			{LastRotatedDate: &last, NextRotationDate: &next, Tags: tags, RotationRules: rules, DeletedDate: &next},
		}}},
	}
	store := &awssm.Store{API: api, Region: "us-east-1"}
	var all []rotation.Description
	d, err := store.Describe(t.Context(), "s")
	if err == nil {
		all = append(all, d)
		err = store.List(t.Context(), func(page []rotation.Description) bool { all = append(all, page...); return true })
	}
	if err != nil || len(all) != 2 {
		t.Fatalf("%d descriptions, %v", len(all), err)
	}
	for _, d := range all {
		if !d.Paused || !d.Deleted || !d.LastRotated.Equal(last) || !d.NextRotation.Equal(next) || d.Every != 7*24*time.Hour {
			t.Errorf("description %+v", d)
		}
	}
}

// Pages end when who reads them has enough, and when the service gives the same
// token again.
func TestPagesEnd(t *testing.T) {
	t.Parallel()
	page := &secretsmanager.ListSecretsOutput{NextToken: aws.String("more"), SecretList: []types.SecretListEntry{{}}}
	for name, tt := range map[string]struct {
		enough, want int
	}{"who reads has enough": {1, 1}, "the token stays the same": {100, 2}} {
		api := &answering{pages: []*secretsmanager.ListSecretsOutput{page}}
		n := 0
		err := (&awssm.Store{API: api}).List(t.Context(), func([]rotation.Description) bool { n++; return n < tt.enough })
		if err != nil || api.listed != tt.want {
			t.Errorf("%s: %d pages, %v, want %d", name, api.listed, err, tt.want)
		}
	}
}
