package secretsmanager

import (
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

type getRandomPasswordInput struct {
	ExcludeCharacters       string
	ExcludeLowercase        bool
	ExcludeNumbers          bool
	ExcludePunctuation      bool
	ExcludeUppercase        bool
	IncludeSpace            bool
	PasswordLength          *int
	RequireEachIncludedType *bool
}

type getRandomPasswordOutput struct{ RandomPassword string }

// characterTypes are those of the API reference, GetRandomPassword.
func (in getRandomPasswordInput) characterTypes() []string {
	var types []string
	for _, t := range []struct {
		exclude bool
		set     string
	}{
		{in.ExcludeLowercase, "abcdefghijklmnopqrstuvwxyz"},
		{in.ExcludeUppercase, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		{in.ExcludeNumbers, "0123456789"},
		{in.ExcludePunctuation, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
		{!in.IncludeSpace, " "},
	} {
		set := strings.Map(func(r rune) rune {
			if strings.ContainsRune(in.ExcludeCharacters, r) {
				return -1
			}
			return r
		}, t.set)
		if !t.exclude && set != "" {
			types = append(types, set)
		}
	}
	return types
}

func (s *Service) getRandomPassword(in getRandomPasswordInput) (any, error) {
	n := 32
	if in.PasswordLength != nil {
		n = *in.PasswordLength
	}
	each := in.RequireEachIncludedType == nil || *in.RequireEachIncludedType
	types := in.characterTypes()
	if n < 1 || n > 4096 || len(types) == 0 || (each && n < len(types)) || len(in.ExcludeCharacters) > 4096 {
		return nil, awsproto.Errorf("InvalidParameterException",
			"PasswordLength is 1 to 4096, some character must be left, and each included type needs its place")
	}
	all := strings.Join(types, "")
	if !each {
		return getRandomPasswordOutput{letters(n, all)}, nil
	}
	return getRandomPasswordOutput{withEach(types, all, n)}, nil
}

// withEach draws one character of each type and the rest from all, shuffled.
func withEach(types []string, all string, n int) string {
	out := make([]byte, 0, n)
	for _, set := range types {
		out = append(out, letters(1, set)[0])
	}
	out = append(out, letters(n-len(types), all)...)
	for i := len(out) - 1; i > 0; i-- {
		j := below(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}
