package secretsmanager_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// names lists the names that all pages show.
func (f *fixture) names(in sm.ListSecretsInput) (all []string, pages int) {
	f.t.Helper()
	p := sm.NewListSecretsPaginator(f, &in)
	for p.HasMorePages() {
		page, err := p.NextPage(f.ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		pages++
		for _, entry := range page.SecretList {
			all = append(all, *entry.Name)
		}
	}
	return all, pages
}

func TestListSecretsPagesHoldAHundredAtMost(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	const n = 101
	for i := range n {
		f.create(fmt.Sprintf("s-%03d", i), "one")
	}
	for size, want := range map[int32]int{0: 2, 100: 2, 50: 3, 1: n} {
		in := sm.ListSecretsInput{}
		if size > 0 {
			in.MaxResults = &size
		}
		names, pages := f.names(in)
		if pages != want || len(names) != n || !slices.IsSorted(names) {
			t.Errorf("MaxResults %d: %d secrets in %d pages, want %d in %d", size, len(names), pages, n, want)
		}
	}
	// What comes or goes between two pages hides nothing else.
	first, err := f.ListSecrets(f.ctx, &sm.ListSecretsInput{MaxResults: aws.Int32(100)})
	if err != nil {
		t.Fatal(err)
	}
	f.create("z", "one")
	rest, _ := f.names(sm.ListSecretsInput{NextToken: first.NextToken})
	if !slices.Equal(rest, []string{"s-100", "z"}) {
		t.Errorf("the second page shows %v", rest)
	}
}

func TestListSecretsShowsDeletedOnesWhenAsked(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("kept", "one")
	f.create("going", "one")
	if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: aws.String("going"), RecoveryWindowInDays: aws.Int64(7)}); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[bool][]string{false: {"kept"}, true: {"kept", "going"}} {
		if names, _ := f.names(sm.ListSecretsInput{IncludePlannedDeletion: &asked}); !slices.Equal(names, want) {
			t.Errorf("IncludePlannedDeletion %v: %v, want %v", asked, names, want)
		}
	}
	out, err := f.ListSecrets(f.ctx, &sm.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)})
	if err != nil || out.SecretList[1].DeletedDate == nil {
		t.Errorf("the page doesn't say that it is deleted: %v, %v", out, err)
	}
	f.clock.Advance(8 * 24 * time.Hour)
	if names, _ := f.names(sm.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)}); !slices.Equal(names, []string{"kept"}) {
		t.Errorf("after the recovery window: %v", names)
	}
}

func TestListSecretsRefusesWhatItsModelDoes(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	filter := func(key string, values ...string) types.Filter {
		return types.Filter{Key: types.FilterNameStringType(key), Values: values}
	}
	for name, tt := range map[string]struct {
		in   sm.ListSecretsInput
		code string
	}{
		"no results":       {sm.ListSecretsInput{MaxResults: aws.Int32(0)}, "ValidationException"},
		"too many results": {sm.ListSecretsInput{MaxResults: aws.Int32(101)}, "ValidationException"},
		"a made-up token":  {sm.ListSecretsInput{NextToken: aws.String("bm9uc2Vuc2U")}, "InvalidNextTokenException"},
		"a long token":     {sm.ListSecretsInput{NextToken: aws.String(strings.Repeat("x", 4097))}, "ValidationException"},
		"an unknown order": {sm.ListSecretsInput{SortBy: "size"}, "ValidationException"},
		"an unknown key":   {sm.ListSecretsInput{Filters: []types.Filter{filter("arn", "x")}}, "InvalidParameterException"},
		"no value":         {sm.ListSecretsInput{Filters: []types.Filter{{Key: "name", Values: []string{}}}}, "InvalidParameterException"},
		"eleven values":    {sm.ListSecretsInput{Filters: []types.Filter{filter("name", strings.Split(strings.Repeat("x", 11), "")...)}}, "InvalidParameterException"},
		"a long value":     {sm.ListSecretsInput{Filters: []types.Filter{filter("name", strings.Repeat("x", 513))}}, "ValidationException"},
		"a strange value":  {sm.ListSecretsInput{Filters: []types.Filter{filter("name", "x*")}}, "ValidationException"},
		"eleven filters":   {sm.ListSecretsInput{Filters: slices.Repeat([]types.Filter{filter("name", "x")}, 11)}, "ValidationException"},
	} {
		_, err := f.ListSecrets(f.ctx, &tt.in)
		wantError(t, err, tt.code, "")
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// ListSecrets may lag behind DescribeSecret: by five minutes, says its reference.
func TestC7_7_ListLagShowsOldLabelsAndHidesNewSecrets(t *testing.T) {
	t.Parallel()
	for _, lag := range []time.Duration{0, 5 * time.Minute} {
		f := start(t, secretsmanager.Behaviour{ListLag: lag})
		_, v1 := f.create("old", "one")
		f.clock.Advance(time.Hour)
		f.create("new", "one")
		v2 := f.mustPut("old", "two")
		f.wantLabels("old", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSCURRENT"}}) // DescribeSecret has no lag
		look := func() (names, current string) {
			out, err := f.ListSecrets(f.ctx, &sm.ListSecretsInput{})
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range out.SecretList {
				names += *entry.Name + " "
				for id, stages := range entry.SecretVersionsToStages {
					if *entry.Name == "old" && slices.Contains(stages, "AWSCURRENT") {
						current = id
					}
				}
			}
			return names, current
		}
		want, current := "old new ", v2
		if lag > 0 {
			want, current = "old ", v1
		}
		if names, id := look(); names != want || id != current {
			t.Errorf("lag %s: it shows %s, with %s as current", lag, names, id)
		}
		f.clock.Advance(6 * time.Minute)
		if names, id := look(); names != "old new " || id != v2 {
			t.Errorf("lag %s: when it is over it shows %s, with %s as current", lag, names, id)
		}
	}
}
