package secretsmanager_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func TestC3_6_PutWithoutStagesMovesCurrentAndPrevious(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	v2 := f.mustPut("s", "two")
	f.wantLabels("s", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSCURRENT"}})
	v3 := f.mustPut("s", "three")
	f.wantLabels("s", map[string][]string{v2: {"AWSPREVIOUS"}, v3: {"AWSCURRENT"}})
	if _, err := f.get("s", v1, ""); err != nil {
		t.Errorf("a deprecated version is still readable by id; got %v", err)
	}
}

func TestC3_5_SameTokenSameValueSucceedsOtherValueFails(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	token := f.mustPut("s", "two", "AWSPENDING")
	if err := f.put("s", token, "two", "AWSCURRENT"); err != nil {
		t.Errorf("same value: %v", err)
	}
	if got, _ := f.get("s", "", ""); got != "one" {
		t.Errorf("a repeated put moved a label: current is %q", got)
	}
	wantError(t, f.put("s", token, "other", "AWSPENDING"), "ResourceExistsException", token)
}

func TestC3_6_PutWithStagesMovesThem(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	v2 := f.mustPut("s", "two", "MINE", "AWSPENDING")
	v3 := f.mustPut("s", "three", "MINE")
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, v2: {"AWSPENDING"}, v3: {"MINE"}})
	v4 := f.mustPut("s", "four", "AWSCURRENT", "MINE")
	f.wantLabels("s", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSPENDING"}, v4: {"AWSCURRENT", "MINE"}})
}

func TestC3_1_TheFirstVersionIsAlwaysCurrent(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	if _, err := f.CreateSecret(f.ctx, &sm.CreateSecretInput{Name: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	_, err := f.get("s", "", "")
	wantError(t, err, "ResourceNotFoundException", "staging label: AWSCURRENT")
	v1 := f.mustPut("s", "one", "MINE")
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT", "MINE"}})
}

func TestC6_2_MovingCurrentNeedsItsHolderAndMovesPrevious(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	v2 := f.mustPut("s", "two")
	v3 := f.mustPut("s", "three", "MINE")
	wantError(t, f.move("s", "AWSCURRENT", v3, ""), "InvalidParameterException", "RemoveFromVersionId can't be empty")
	wantError(t, f.move("s", "AWSCURRENT", v3, v1), "InvalidParameterException", "must be set to the version that currently has")
	f.wantLabels("s", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSCURRENT"}, v3: {"MINE"}})
	if err := f.move("s", "AWSCURRENT", v3, v2); err != nil {
		t.Fatal(err)
	}
	f.wantLabels("s", map[string][]string{v2: {"AWSPREVIOUS"}, v3: {"AWSCURRENT", "MINE"}})
	if err := f.move("s", "AWSCURRENT", v2, v3); err != nil {
		t.Fatalf("rolling back: %v", err)
	}
	f.wantLabels("s", map[string][]string{v2: {"AWSCURRENT"}, v3: {"AWSPREVIOUS", "MINE"}})
}

func TestC6_2_UpdateSecretVersionStage(t *testing.T) {
	t.Parallel()
	const missing = "00000000-0000-0000-0000-000000000000"
	tests := []struct {
		name      string
		label     string
		to, from  string // "1" is the current version, "2" one with MINE
		code, msg string
	}{
		{"attach a free label", "FREE", "1", "", "", ""},
		{"attach where it is", "MINE", "2", "", "", ""},
		{"attach where it is, naming its holder", "MINE", "2", "2", "", ""},
		{"attach what another version holds", "MINE", "1", "", "InvalidParameterException", "RemoveFromVersionId can't be empty"},
		{"move from the holder", "MINE", "1", "2", "", ""},
		{"move to the holder from another version", "MINE", "2", "1", "InvalidParameterException", "must be set to the version"},
		{"move a label that nobody holds", "FREE", "1", "2", "InvalidParameterException", "must be set to the version"},
		{"remove", "MINE", "", "2", "", ""},
		{"remove from a version that doesn't hold it", "MINE", "", "1", "InvalidParameterException", "must be set to the version"},
		{"remove AWSCURRENT", "AWSCURRENT", "", "1", "InvalidParameterException", "can’t be completely removed"},
		{"neither", "MINE", "", "", "InvalidParameterException", "MoveToVersionId"},
		{"to a version that isn't there", "MINE", missing, "2", "ResourceNotFoundException", missing},
		{"an id that can't be one", "MINE", "short", "", "InvalidParameterException", "32-64"},
		{"a label that is too long", strings.Repeat("x", 257), "1", "", "ValidationException", "256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, secretsmanager.Behaviour{})
			_, v1 := f.create("s", "one")
			v2 := f.mustPut("s", "two", "MINE")
			ids := map[string]string{"1": v1, "2": v2, missing: missing, "short": "short"}
			err := f.move("s", tt.label, ids[tt.to], ids[tt.from])
			if tt.code == "" && err != nil {
				t.Fatalf("error = %v, want none", err)
			}
			if tt.code != "" {
				wantError(t, err, tt.code, tt.msg)
				f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, v2: {"MINE"}})
			}
		})
	}
}

func TestC7_9_ThrottleAndFaultPoints(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{Throttle: func(action string) bool { return action == "GetSecretValue" }})
	f.create("s", "one")
	_, err := f.get("s", "", "")
	wantError(t, err, "ThrottlingException", "Rate exceeded")
	f.service.SetBehaviour(secretsmanager.Behaviour{})

	var points []string
	fail := ""
	f.service.SetFault(func(_ context.Context, action string, before bool) error {
		point := fmt.Sprintf("%s before=%v", action, before)
		points = append(points, point)
		if point == fail {
			return fmt.Errorf("injected at %s", point)
		}
		return nil
	})
	fail = "PutSecretValue before=true"
	if err := f.put("s", uuid.NewString(), "two"); code(err) != "InternalServiceError" {
		t.Errorf("fault before: %v", err)
	}
	fail = ""
	if got, _ := f.get("s", "", ""); got != "one" {
		t.Errorf("a fault before the call had the effect %q", got)
	}
	fail = "PutSecretValue before=false"
	if err := f.put("s", uuid.NewString(), "two"); code(err) != "InternalServiceError" {
		t.Errorf("fault after: %v", err)
	}
	fail = ""
	if got, _ := f.get("s", "", ""); got != "two" {
		t.Errorf("a fault after the call undid it: %q", got)
	}
	if !slices.Contains(points, "GetSecretValue before=true") || !slices.Contains(points, "GetSecretValue before=false") {
		t.Errorf("points = %v", points)
	}
}

func TestC4_1_ReadLagShowsOldLabels(t *testing.T) {
	t.Parallel()
	for _, lag := range []time.Duration{0, time.Minute} {
		f := start(t, secretsmanager.Behaviour{ReadLag: lag})
		_, v1 := f.create("s", "one")
		v2 := f.mustPut("s", "two")
		want, stages := "two", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSCURRENT"}}
		if lag > 0 {
			want, stages = "one", map[string][]string{v1: {"AWSCURRENT"}}
			_, err := f.get("s", v2, "AWSCURRENT")
			wantError(t, err, "ResourceNotFoundException", v2)
			f.clock.Advance(lag * 2 / 3)
		}
		if got, _ := f.get("s", "", ""); got != want {
			t.Errorf("lag %s: read %q, want %q", lag, got, want)
		}
		f.wantLabels("s", stages)
		if got, err := f.get("s", v2, ""); got != "two" {
			t.Errorf("lag %s: a read by id alone is fresh; got %q, %v", lag, got, err)
		}
		f.clock.Advance(2 * time.Minute)
		f.wantLabels("s", map[string][]string{v1: {"AWSPREVIOUS"}, v2: {"AWSCURRENT"}})
		if got, _ := f.get("s", v2, "AWSCURRENT"); got != "two" {
			t.Errorf("lag %s: still stale when it is over: %q", lag, got)
		}
	}
}
