package lambda_test

import (
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/keyturn/keyturn/localstack/lambda"
)

// A caller has the answer when the runtime has posted it; the environment takes
// more work when it asks for it.
func TestAnswerComesBeforeTheEnvironmentIsFree(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{LogSink: l.add}, lambda.Function{Name: "f", MaxConcurrency: 1, Env: []string{"LINGER=1s"}})
	first, _ := invoke(t, s, "")
	if n := l.count("REPORT"); n != 0 {
		t.Errorf("%d invocations have been reported with the first answer", n)
	}
	if again, _ := invoke(t, s, ""); again != first {
		t.Errorf("a cold start while the environment was about to be free: pid %s, then %s", first, again)
	}
	out, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), LogType: types.LogTypeTail})
	if err != nil || out.LogResult == nil || l.count("REPORT") != 3 {
		t.Errorf("who asks for the log's end has %d reports, %v", l.count("REPORT"), err)
	}
	if stats, _ := s.Stats("f"); stats.Environments != 1 || stats.Throttles != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestEnvironmentThatNeverAsksAgainIsKilled(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", Timeout: 2 * time.Second, Env: []string{"LINGER=1h"}})
	first, failed := invoke(t, s, "")
	if failed != "" {
		t.Fatalf("the answer was %s", first)
	}
	if again, failed := invoke(t, s, ""); again == first || failed != "" {
		t.Errorf("after pid %s: %q %s", first, failed, again)
	}
	eventually(t, "both are gone", func() bool { st, _ := s.Stats("f"); return st.Alive == 0 })
	if stats, _ := s.Stats("f"); stats.Errors != 0 || stats.Environments != 2 {
		t.Errorf("stats %+v", stats)
	}
}

// A runtime that asks for work before the service has noted when it began had a
// cold start of centuries: many at once on a busy machine do.
func TestColdStartsAreCountedFromTheStart(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f"})
	var calls sync.WaitGroup
	for range 40 {
		calls.Go(func() {
			if _, err := s.Invoke(t.Context(), "f", []byte(`""`)); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	stats, _ := s.Stats("f")
	for _, d := range stats.ColdStarts {
		if d <= 0 || d > time.Hour {
			t.Errorf("a cold start of %s", d)
		}
	}
	if len(stats.ColdStarts) == 0 {
		t.Error("nothing was started")
	}
}
