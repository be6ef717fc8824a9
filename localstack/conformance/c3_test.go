package conformance_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
)

func TestC3_1_ASecretWithoutAValueHasNoCurrent(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, "")
	_, err := s.get("", current)
	wantCode(t, err, "ResourceNotFoundException", "")
	_, err = s.get("", "")
	wantCode(t, err, "ResourceNotFoundException", "")
}

func TestC3_3_ThePendingVersionIsThereAndEmpty(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "createSecret")
	version := s.rotate()
	s.reached("createSecret")
	s.wantLabels(map[string]string{current: s.first, pending: version})
	_, err := s.get(version, pending)
	wantCode(t, err, "ResourceNotFoundException", "")
	_, err = s.get("", pending)
	wantCode(t, err, "ResourceNotFoundException", "")
	_, err = s.get(s.first, pending)
	wantCode(t, err, "InvalidRequestException", "")
	s.takeBack("hold")
	s.rotated(version)
	if value, err := s.get(version, current); err != nil || value == "" {
		t.Errorf("the version that was empty: %v", err)
	}
}

func TestC3_4_RandomPasswordsAreWithinTheirLimits(t *testing.T) {
	t.Parallel()
	a := anywhere(t)
	password := func(in sm.GetRandomPasswordInput) string {
		t.Helper()
		out, err := a.secrets.GetRandomPassword(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(out.RandomPassword)
	}
	const excluded = `:/@"'\`
	first := password(sm.GetRandomPasswordInput{ExcludeCharacters: aws.String(excluded)})
	if len(first) != 32 || strings.ContainsAny(first, excluded) {
		t.Errorf("%d characters, excluded ones among them: %v", len(first), strings.ContainsAny(first, excluded))
	}
	if first == password(sm.GetRandomPasswordInput{ExcludeCharacters: aws.String(excluded)}) {
		t.Error("the same password twice")
	}
	digits := password(sm.GetRandomPasswordInput{
		PasswordLength: aws.Int64(8), ExcludeLowercase: aws.Bool(true), ExcludeUppercase: aws.Bool(true), ExcludePunctuation: aws.Bool(true),
	})
	if len(digits) != 8 || strings.Trim(digits, "0123456789") != "" {
		t.Error("a password of digits has something else")
	}
	// Four types of characters need four places.
	_, err := a.secrets.GetRandomPassword(t.Context(), &sm.GetRandomPasswordInput{PasswordLength: aws.Int64(3)})
	wantCode(t, err, "InvalidParameterException", "")
}

func TestC3_5_ATokenKeepsItsFirstValue(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, "first")
	version := uuid.NewString()
	for range 2 { // the second does nothing
		if err := s.put(version, "second", pending); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, s.put(version, "third", pending), "ResourceExistsException", "")
	if got, err := s.get(version, pending); err != nil || got != "second" {
		t.Errorf("the version holds %q, %v", got, err)
	}
	s.wantLabels(map[string]string{current: s.first, pending: version})
}

func TestC3_6_APutWithoutStagesIsCurrentAtOnce(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, "first")
	second := s.mustPut("second")
	s.wantLabels(map[string]string{current: second, previous: s.first})
	third := s.mustPut("third", pending)
	s.wantLabels(map[string]string{current: second, previous: s.first, pending: third})
}
