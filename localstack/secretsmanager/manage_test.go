package secretsmanager_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func TestC1_2_ARNsAndLookup(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, _ := f.create("app/db", "one")
	if !regexp.MustCompile(`^arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-[A-Za-z0-9]{6}$`).MatchString(arn) {
		t.Errorf("ARN %s", arn)
	}
	trap, _ := f.create("app-abcdef", "trap")
	tests := []struct{ id, want string }{
		{"app/db", "one"},
		{arn, "one"},
		{arn[:len(arn)-7], "one"}, // a partial ARN
		{"app-abcdef", "trap"},
		{trap, "trap"},
		{trap[:len(trap)-7], ""}, // looks complete, so it isn't found
		{"app", ""},
		{strings.Replace(arn, "us-east-1", "eu-west-1", 1), ""},
	}
	for _, tt := range tests {
		got, err := f.get(tt.id, "", "")
		if got != tt.want {
			t.Errorf("get %s = %q, %v; want %q", tt.id, got, err, tt.want)
		}
		if tt.want == "" {
			wantError(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
		}
	}
}

func TestC3_5_CreateSecret(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	token := uuid.NewString()
	in := func(name, value string) *sm.CreateSecretInput {
		return &sm.CreateSecretInput{Name: &name, SecretString: &value, ClientRequestToken: &token}
	}
	first, err := f.CreateSecret(f.ctx, in("s", "one"))
	if err != nil || *first.VersionId != token {
		t.Fatalf("CreateSecret: %v, %v", first, err)
	}
	again, err := f.CreateSecret(f.ctx, in("s", "one"))
	if err != nil || *again.ARN != *first.ARN {
		t.Errorf("the same call again: %v, %v", again, err)
	}
	_, err = f.CreateSecret(f.ctx, in("s", "two"))
	wantError(t, err, "ResourceExistsException", "already exists")
	for _, name := range []string{"with space", "with:colon", strings.Repeat("n", 513)} {
		_, err = f.CreateSecret(f.ctx, in(name, "one"))
		wantError(t, err, "ValidationException", "Invalid name")
	}
	_, err = f.CreateSecret(f.ctx, in("big", strings.Repeat("x", 65537)))
	wantError(t, err, "ValidationException", "65536")
	if _, err = f.CreateSecret(f.ctx, in("big", strings.Repeat("x", 65536))); err != nil {
		t.Errorf("65536 bytes: %v", err)
	}
	both := in("both", "one")
	both.SecretBinary = []byte("one")
	_, err = f.CreateSecret(f.ctx, both)
	wantError(t, err, "InvalidParameterException", "both a binary")
	short := in("short", "one")
	short.ClientRequestToken = aws.String("short")
	_, err = f.CreateSecret(f.ctx, short)
	wantError(t, err, "InvalidParameterException", "32-64")
	replicated := in("replicated", "one")
	replicated.AddReplicaRegions = []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}}
	_, err = f.CreateSecret(f.ctx, replicated)
	wantError(t, err, "SerializationException", "AddReplicaRegions")
}

func TestBinaryValues(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, err := f.CreateSecret(f.ctx, &sm.CreateSecretInput{Name: aws.String("s"), SecretBinary: []byte{0, 1, 255}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.GetSecretValue(f.ctx, &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || cmp.Diff([]byte{0, 1, 255}, out.SecretBinary) != "" || out.SecretString != nil {
		t.Errorf("%v, %v", out, err)
	}
}

func TestC7_5_UpdateSecretMakesItsValueCurrent(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	if _, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: aws.String("s"), Description: aws.String("what it is")}); err != nil {
		t.Fatal(err)
	}
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}})
	out, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: aws.String("s"), SecretString: aws.String("two")})
	if err != nil {
		t.Fatal(err)
	}
	f.wantLabels("s", map[string][]string{v1: {"AWSPREVIOUS"}, *out.VersionId: {"AWSCURRENT"}})
	if d := f.describe("s"); aws.ToString(d.Description) != "what it is" {
		t.Errorf("description %v", d.Description)
	}
}

func TestC2_6_DescribeShowsWhoMayNotBeRotated(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("plain", "one")
	f.service.Seed(secretsmanager.Seed{Name: "replica", Value: "v", PrimaryRegion: "eu-west-1"})
	f.service.Seed(secretsmanager.Seed{Name: "primary", Value: "v", PrimaryRegion: "us-east-1", ReplicaRegions: []string{"eu-west-1"}})
	f.service.Seed(secretsmanager.Seed{Name: "rds!cluster-1", Value: "v", OwningService: "rds"})
	if d := f.describe("plain"); d.RotationEnabled != nil || d.OwningService != nil || d.PrimaryRegion != nil || d.DeletedDate != nil {
		t.Errorf("plain: %+v", d)
	}
	if d := f.describe("replica"); aws.ToString(d.PrimaryRegion) != "eu-west-1" {
		t.Errorf("replica: %v", d.PrimaryRegion)
	}
	if d := f.describe("primary"); len(d.ReplicationStatus) != 1 || d.ReplicationStatus[0].Status != types.StatusTypeInSync {
		t.Errorf("primary: %v", d.ReplicationStatus)
	}
	if d := f.describe("rds!cluster-1"); aws.ToString(d.OwningService) != "rds" {
		t.Errorf("managed: %v", d.OwningService)
	}
	for id, part := range map[string]string{"replica": "replica secret", "rds!cluster-1": "managed by another service"} {
		wantError(t, f.put(id, uuid.NewString(), "two"), "InvalidRequestException", part)
	}
	if err := f.put("primary", uuid.NewString(), "two"); err != nil {
		t.Errorf("a replicated primary can be written: %v", err)
	}
}

func TestC2_6_DeleteAndRestore(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, _ := f.create("s", "one")
	id := aws.String("s")
	for _, in := range []*sm.DeleteSecretInput{
		{SecretId: id, RecoveryWindowInDays: aws.Int64(6)},
		{SecretId: id, RecoveryWindowInDays: aws.Int64(31)},
		{SecretId: id, RecoveryWindowInDays: aws.Int64(7), ForceDeleteWithoutRecovery: aws.Bool(true)},
	} {
		_, err := f.DeleteSecret(f.ctx, in)
		wantError(t, err, "InvalidParameterException", "RecoveryWindowInDays")
	}
	out, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: id, RecoveryWindowInDays: aws.Int64(7)})
	if err != nil || out.DeletionDate.Before(f.clock.Now().AddDate(0, 0, 6)) {
		t.Fatalf("DeleteSecret: %v, %v", out, err)
	}
	if d := f.describe("s"); d.DeletedDate == nil {
		t.Error("no DeletedDate")
	}
	const marked = "You can't perform this operation on the secret because it was marked for deletion."
	_, err = f.get("s", "", "")
	wantError(t, err, "InvalidRequestException", marked)
	wantError(t, f.put("s", uuid.NewString(), "two"), "InvalidRequestException", marked)
	_, err = f.RotateSecret(f.ctx, rotateInput("s", uuid.NewString()))
	wantError(t, err, "InvalidRequestException", marked)
	_, err = f.CreateSecret(f.ctx, &sm.CreateSecretInput{Name: id, SecretString: aws.String("new")})
	wantError(t, err, "InvalidRequestException", "already scheduled for deletion")

	if _, err := f.RestoreSecret(f.ctx, &sm.RestoreSecretInput{SecretId: id}); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.get("s", "", ""); got != "one" {
		t.Errorf("restored value %q", got)
	}
	if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: id}); err != nil {
		t.Fatal(err)
	}
	if at := f.describe("s").DeletedDate; at == nil || at.Sub(f.clock.Now()).Round(time.Hour) != 30*24*time.Hour {
		t.Errorf("by default it is deleted at %v, want in 30 days", at)
	}
	f.clock.Advance(31 * 24 * time.Hour)
	_, err = f.DescribeSecret(f.ctx, &sm.DescribeSecretInput{SecretId: &arn})
	wantError(t, err, "ResourceNotFoundException", "")

	f.create("s", "again")
	for range 2 { // the second time there is nothing left to delete
		_, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: id, ForceDeleteWithoutRecovery: aws.Bool(true)})
		if err != nil {
			t.Errorf("forced: %v", err)
		}
	}
	f.create("s", "at once")
}

func TestTags(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	tagged := func(tags ...types.Tag) error {
		_, err := f.TagResource(f.ctx, &sm.TagResourceInput{SecretId: aws.String("s"), Tags: tags})
		return err
	}
	pair := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	if err := tagged(pair("a", "1"), pair("keyturn:pause", "true"), pair("a", "2")); err != nil {
		t.Fatal(err)
	}
	wantError(t, tagged(pair("aws:mine", "1")), "InvalidParameterException", "aws:")
	wantError(t, tagged(pair(strings.Repeat("k", 129), "1")), "InvalidParameterException", "128")
	var many []types.Tag
	for range 50 {
		many = append(many, pair(uuid.NewString(), "x"))
	}
	wantError(t, tagged(many...), "InvalidParameterException", "50")
	if _, err := f.UntagResource(f.ctx, &sm.UntagResourceInput{SecretId: aws.String("s"), TagKeys: []string{"keyturn:pause"}}); err != nil {
		t.Fatal(err)
	}
	got := f.describe("s").Tags
	if len(got) != 1 || *got[0].Key != "a" || *got[0].Value != "2" {
		t.Errorf("tags = %+v", got)
	}
}

func TestListSecretsShowsLabelsAndPages(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("app/a", "one")
	for _, name := range []string{"app/b", "app/c", "other"} {
		f.create(name, "one")
	}
	if _, err := f.TagResource(f.ctx, &sm.TagResourceInput{SecretId: aws.String("app/b"), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("x")}}}); err != nil {
		t.Fatal(err)
	}
	list := func(key, value string) []string {
		var names []string
		in := &sm.ListSecretsInput{MaxResults: aws.Int32(1)}
		if key != "" {
			in.Filters = []types.Filter{{Key: types.FilterNameStringType(key), Values: []string{value}}}
		}
		pages := sm.NewListSecretsPaginator(f, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range page.SecretList {
				names = append(names, *entry.Name)
				if *entry.Name == "app/a" && cmp.Diff(map[string][]string{v1: {"AWSCURRENT"}}, entry.SecretVersionsToStages) != "" {
					t.Errorf("labels in the page: %v", entry.SecretVersionsToStages)
				}
			}
		}
		return names
	}
	tests := []struct {
		key, value string
		want       []string
	}{
		{"", "", []string{"app/a", "app/b", "app/c", "other"}},
		{"name", "app/", []string{"app/a", "app/b", "app/c"}},
		{"name", "!app/", []string{"other"}},
		{"tag-key", "team", []string{"app/b"}},
		{"all", "OTHER team", []string{"app/b", "other"}},
		{"all", "nothing", nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, list(tt.key, tt.value)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.key, tt.value, diff)
		}
	}
	_, err := f.ListSecrets(f.ctx, &sm.ListSecretsInput{NextToken: aws.String("bm9uc2Vuc2U")})
	wantError(t, err, "InvalidNextTokenException", "")
}

func TestBatchGetSecretValue(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("a", "one")
	f.create("b", "two")
	out, err := f.BatchGetSecretValue(f.ctx, &sm.BatchGetSecretValueInput{SecretIdList: []string{"a", "nothing", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.SecretValues) != 2 || *out.SecretValues[1].SecretString != "two" {
		t.Errorf("values %+v", out.SecretValues)
	}
	if len(out.Errors) != 1 || *out.Errors[0].ErrorCode != "ResourceNotFoundException" || *out.Errors[0].SecretId != "nothing" {
		t.Errorf("errors %+v", out.Errors)
	}
	_, err = f.BatchGetSecretValue(f.ctx, &sm.BatchGetSecretValueInput{SecretIdList: make([]string, 21)})
	wantError(t, err, "InvalidParameterException", "20")
}

func TestC3_4_GetRandomPassword(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	password := func(in *sm.GetRandomPasswordInput) string {
		out, err := f.GetRandomPassword(f.ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return *out.RandomPassword
	}
	if got := password(&sm.GetRandomPasswordInput{}); len(got) != 32 || strings.Contains(got, " ") {
		t.Errorf("default: %d characters", len(got))
	}
	for range 50 {
		got := password(&sm.GetRandomPasswordInput{PasswordLength: aws.Int64(4), ExcludeCharacters: aws.String(`:/@"'\`)})
		for _, set := range []string{`[a-z]`, `[A-Z]`, `[0-9]`, `[^A-Za-z0-9:/@"'\\ ]`} {
			if !regexp.MustCompile(set).MatchString(got) {
				t.Errorf("nothing of %s in a password of 4", set)
			}
		}
	}
	yes := aws.Bool(true)
	for name, tt := range map[string]struct {
		in   sm.GetRandomPasswordInput
		want string
	}{
		"no lowercase":     {sm.GetRandomPasswordInput{ExcludeLowercase: yes}, `^[^a-z ]{400}$`},
		"no uppercase":     {sm.GetRandomPasswordInput{ExcludeUppercase: yes}, `^[^A-Z ]{400}$`},
		"no numbers":       {sm.GetRandomPasswordInput{ExcludeNumbers: yes}, `^[^0-9 ]{400}$`},
		"no punctuation":   {sm.GetRandomPasswordInput{ExcludePunctuation: yes}, `^[A-Za-z0-9]{400}$`},
		"spaces":           {sm.GetRandomPasswordInput{IncludeSpace: yes}, ` `},
		"no type required": {sm.GetRandomPasswordInput{RequireEachIncludedType: aws.Bool(false)}, `^[^ ]{400}$`},
	} {
		tt.in.PasswordLength = aws.Int64(400)
		if got := password(&tt.in); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := password(&sm.GetRandomPasswordInput{PasswordLength: aws.Int64(1), RequireEachIncludedType: aws.Bool(false)}); len(got) != 1 {
		t.Errorf("%d characters, want one", len(got))
	}
	if got := password(&sm.GetRandomPasswordInput{PasswordLength: aws.Int64(4096)}); len(got) != 4096 {
		t.Errorf("%d characters, want 4096", len(got))
	}
	for _, in := range []sm.GetRandomPasswordInput{
		{PasswordLength: aws.Int64(3)}, {PasswordLength: aws.Int64(0)}, {PasswordLength: aws.Int64(4097)},
		{ExcludeLowercase: yes, ExcludeUppercase: yes, ExcludeNumbers: yes, ExcludePunctuation: yes, RequireEachIncludedType: aws.Bool(false)},
	} {
		_, err := f.GetRandomPassword(f.ctx, &in)
		wantError(t, err, "InvalidParameterException", "each included type")
	}
}

func TestUnknownMembersAndActionsAreErrors(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, err := f.service.Call(f.ctx, "DescribeSecret", []byte(`{"SecretId":"s","Unknown":1}`))
	if err == nil || !strings.Contains(err.Error(), "SerializationException") {
		t.Errorf("unknown member: %v", err)
	}
	_, err = f.GetResourcePolicy(f.ctx, &sm.GetResourcePolicyInput{SecretId: aws.String("s")})
	wantError(t, err, "UnknownOperationException", "GetResourcePolicy")
}

func TestC3_5_AValueNeedsAToken(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	for action, body := range map[string]string{
		"CreateSecret":   `{"Name":"n","SecretString":"x"}`,
		"PutSecretValue": `{"SecretId":"s","SecretString":"x"}`,
		"UpdateSecret":   `{"SecretId":"s","SecretString":"x"}`,
		"RotateSecret":   `{"SecretId":"s"}`,
	} {
		_, err := f.service.Call(f.ctx, action, []byte(body))
		if err == nil || !strings.Contains(err.Error(), "You must provide a ClientRequestToken value.") {
			t.Errorf("%s: %v", action, err)
		}
	}
}
