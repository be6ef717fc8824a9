package secretsmanager

import (
	"cmp"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

type filter struct {
	Key    string
	Values []string
}

type listSecretsInput struct {
	Filters                []filter
	IncludePlannedDeletion bool
	MaxResults             *int
	NextToken              string
	SortBy                 string
	SortOrder              string
}

type listSecretsOutput struct {
	NextToken  string `json:",omitempty"`
	SecretList []description
}

func (s *Service) listSecrets(in listSecretsInput) (any, error) {
	if len(in.NextToken) > maxNextToken {
		return nil, awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'nextToken' failed to satisfy constraint: Member must have length less than or equal to %d", maxNextToken)
	}
	found, err := s.filtered(in.Filters, in.IncludePlannedDeletion)
	if err != nil {
		return nil, err
	}
	lag := s.behaviour.ReadLag + s.behaviour.ListLag
	found = slices.DeleteFunc(found, func(sec *secret) bool {
		return s.behaviour.ListLag > 0 && sec.created.After(s.clock.Now().Add(-lag))
	})
	order := map[string]func(a, b *secret) int{
		"created-date":       func(a, b *secret) int { return a.created.Compare(b.created) },
		"last-accessed-date": func(a, b *secret) int { return a.accessed.Compare(b.accessed) },
		"last-changed-date":  func(a, b *secret) int { return a.changed.Compare(b.changed) },
		"name":               func(a, b *secret) int { return cmp.Compare(a.name, b.name) },
	}[cmp.Or(in.SortBy, "created-date")]
	if order == nil || !slices.Contains([]string{"", "asc", "desc"}, in.SortOrder) {
		return nil, awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'sortBy' or 'sortOrder' failed to satisfy constraint: Member must satisfy enum value set")
	}
	slices.SortStableFunc(found, order)
	if in.SortOrder == "desc" {
		slices.Reverse(found)
	}
	arn := func(sec *secret) string { return sec.arn }
	page, next, err := paged(found, arn, in.MaxResults, 100, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := listSecretsOutput{NextToken: next, SecretList: []description{}}
	for _, sec := range page {
		d := sec.describe()
		d.SecretVersionsToStages = s.seenAgo(sec, lag).stages()
		out.SecretList = append(out.SecretList, d)
	}
	return out, nil
}

// filtered lists the secrets that satisfy every filter, in order of creation.
func (s *Service) filtered(filters []filter, deleted bool) ([]*secret, error) {
	s.purgeDeleted()
	if err := checkFilters(filters); err != nil {
		return nil, err
	}
	var out []*secret
	for _, sec := range s.secrets {
		matches := sec.deletion.IsZero() || deleted
		for _, f := range filters {
			matches = matches && f.matches(sec)
		}
		if matches {
			out = append(out, sec)
		}
	}
	return out, nil
}

// Limits of the API reference: ListSecrets, and Filter.
const (
	maxFilters      = 10
	maxFilterValues = 10
	maxFilterValue  = 512
	maxNextToken    = 4096
)

var filterValue = regexp.MustCompile(`^!?[a-zA-Z0-9 :_@/+=.\-!]*$`)

func checkFilters(filters []filter) error {
	if len(filters) > maxFilters {
		return awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must have length less than or equal to %d", maxFilters)
	}
	for _, f := range filters {
		if _, ok := attributes[f.Key]; !ok || len(f.Values) < 1 || len(f.Values) > maxFilterValues {
			return awsproto.Errorf("InvalidParameterException",
				"a filter has a known key and 1 to %d values; got key %q", maxFilterValues, f.Key)
		}
		for _, value := range f.Values {
			if len(value) > maxFilterValue || !filterValue.MatchString(value) {
				return awsproto.Errorf("ValidationException",
					"1 validation error detected: Value at 'filters' failed to satisfy constraint: a value has up to %d characters of its pattern", maxFilterValue)
			}
		}
	}
	return nil
}

var attributes = map[string]func(*secret) []string{
	"name":           func(sec *secret) []string { return []string{sec.name} },
	"description":    func(sec *secret) []string { return []string{sec.description} },
	"tag-key":        func(sec *secret) []string { return sec.tagTexts(true, false) },
	"tag-value":      func(sec *secret) []string { return sec.tagTexts(false, true) },
	"primary-region": func(sec *secret) []string { return []string{sec.primary} },
	"owning-service": func(sec *secret) []string { return []string{sec.owner} },
	"all": func(sec *secret) []string {
		return append(sec.tagTexts(true, true), sec.name, sec.description, sec.primary, sec.owner)
	},
}

func (sec *secret) tagTexts(keys, values bool) []string {
	var out []string
	for _, t := range sec.tags {
		if keys {
			out = append(out, t.Key)
		}
		if values {
			out = append(out, t.Value)
		}
	}
	return out
}

// matches is true if one of the filter's values fits: a prefix of the
// attribute, and for "all" words anywhere. A leading ! negates a value.
func (f filter) matches(sec *secret) bool {
	texts := attributes[f.Key](sec)
	return slices.ContainsFunc(f.Values, func(value string) bool {
		value, negated := strings.CutPrefix(value, "!")
		fits := slices.ContainsFunc(texts, func(text string) bool { return f.fits(text, value) })
		return fits != negated
	})
}

func (f filter) fits(text, value string) bool {
	switch f.Key {
	case "all":
		text = strings.ToLower(text)
		return slices.ContainsFunc(strings.Fields(strings.ToLower(value)), func(word string) bool {
			return strings.Contains(text, word)
		})
	case "description":
		return strings.HasPrefix(strings.ToLower(text), strings.ToLower(value))
	}
	return strings.HasPrefix(text, value)
}

// paged cuts one page. The token names the last item of the page before, so
// that items which come or go in between repeat or skip nothing else.
func paged[T any](all []T, id func(T) string, size *int, most int, token string) (page []T, next string, err error) {
	n := most
	if size != nil {
		n = *size
	}
	if n < 1 || n > most {
		return nil, "", awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'maxResults' failed to satisfy constraint: Member must be between 1 and %d", most)
	}
	if token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		at := slices.IndexFunc(all, func(item T) bool { return id(item) == string(last) })
		if err != nil || at < 0 {
			return nil, "", awsproto.Errorf("InvalidNextTokenException", "The NextToken value is invalid.")
		}
		all = all[at+1:]
	}
	if len(all) > n {
		next = base64.RawURLEncoding.EncodeToString([]byte(id(all[n-1])))
		all = all[:n]
	}
	return all, next, nil
}

func codeOf(err error) (code, message string) {
	var e *awsproto.Error
	if errors.As(err, &e) {
		return e.Code, e.Message
	}
	return "InternalServiceError", err.Error()
}
