package demo

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/rotation"
)

// emergency runs the emergency state machine to its end.
func (s *stage) emergency(t *testing.T, purpose, token string, cut bool) (output string) {
	t.Helper()
	input, err := json.Marshal(map[string]any{"purpose": purpose, "secret": s.appARN, "token": token, "cut": cut})
	if err != nil {
		t.Fatal(err)
	}
	machine := strings.Replace(s.machine, "keyturn-rotation", "keyturn-emergency", 1)
	started, err := s.sfn.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &machine, Input: aws.String(string(input))})
	if err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the emergency is over", func(rotation.Versions) bool {
		out, err := s.sfn.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
		if err != nil {
			t.Fatal(err)
		}
		if out.Status != types.ExecutionStatusRunning && out.Status != types.ExecutionStatusSucceeded {
			t.Fatalf("it ended %s: %s %s", out.Status, aws.ToString(out.Error), aws.ToString(out.Cause))
		}
		output = aws.ToString(out.Output)
		return out.Status == types.ExecutionStatusSucceeded
	})
	return output
}

// A credential is stolen while an older one is still being drained: both die,
// and consumers follow to a new one.
func TestEmergencyDuringADrain(t *testing.T) {
	for _, cut := range []bool{false, true} {
		s := newStage(t)
		before, err := s.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first := s.rotateSecret(t)
		s.eventually(t, "the rotation is current", current(first))
		stolen, err := s.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if foretold := s.emergency(t, "foretell", uuid.NewString(), cut); !strings.Contains(foretold, "uses it now") {
			t.Errorf("nobody is foretold: %s", foretold)
		}
		token, began := uuid.NewString(), time.Now()
		s.emergency(t, "act", token, cut)
		t.Logf("cut %v: destroyed %s after the call", cut, time.Since(began).Round(100*time.Millisecond))
		after, err := s.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.works(t, after, before, stolen)
		s.eventually(t, "nothing is left to do", stable(token))
		s.close()
	}
}
