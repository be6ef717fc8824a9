package stepfunctions_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

const threePasses = `"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","Next":"C"},"C":{"Type":"Pass","End":true}`

// Not parallel: it weighs the heap of the whole process.
func TestEndedExecutionsLeaveTheHeap(t *testing.T) {
	s := stepfunctions.New(stepfunctions.Config{Dir: t.TempDir()})
	t.Cleanup(s.Close)
	body := fmt.Sprintf(`{"name":"m","roleArn":%q,"definition":%q}`, role, machine(threePasses))
	if _, err := s.Call(t.Context(), "CreateStateMachine", []byte(body)); err != nil {
		t.Fatal(err)
	}
	const payload, executions = 64 << 10, 60
	const history = 8 * payload // three states, entered and left, beside the start and the end
	run := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			input := `"` + strings.Repeat(string(rune('a'+i%26)), payload-2) + `"`
			arn, err := s.StartExecution(t.Context(), "arn:aws:states:us-east-1:000000000000:stateMachine:m", fmt.Sprint("run-", i), []byte(input))
			if err != nil {
				t.Fatal(err)
			}
			<-s.Done(arn)
		}
	}
	run(0, 10)
	before := liveHeap()
	run(10, 10+executions)
	after := liveHeap()
	if grown := after - before; grown > 3*history {
		t.Errorf("%d ended executions hold %d bytes, the history of one is %d", executions, grown, history)
	}
	runtime.KeepAlive(s)
}

func liveHeap() int64 {
	var m runtime.MemStats
	for range 3 { // what pools hold goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAnEndedExecutionIsWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{Dir: t.TempDir()})
	const input = `{"text":"<a> & \"b\" é","n":1.50}`
	run := b.start(b.create("m", machine(threePasses)), "r", input)
	d := b.end(run)
	if aws.ToString(d.Input) != input || aws.ToString(d.Output) == "" || d.Status != types.ExecutionStatusSucceeded {
		t.Errorf("described as %+v", d)
	}
	for _, reverse := range []bool{false, true} {
		var ids, want []int64
		pages := sfn.NewGetExecutionHistoryPaginator(b.client, &sfn.GetExecutionHistoryInput{ExecutionArn: run, MaxResults: 3, ReverseOrder: reverse})
		for pages.HasMorePages() {
			p, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Events {
				ids = append(ids, e.Id)
				if started := e.ExecutionStartedEventDetails; started != nil && aws.ToString(started.Input) != input {
					t.Errorf("it started with %s", aws.ToString(started.Input))
				}
			}
		}
		for i := range int64(8) {
			want = append(want, i+1)
			if reverse {
				want[i] = 8 - i
			}
		}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("reversed %t: %s", reverse, diff)
		}
	}
}

func TestExecutionsAreForgottenAfter90Days(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, stepfunctions.Config{Dir: dir})
	arn := b.create("m", machine(threePasses))
	for i := range 5 {
		b.end(b.start(arn, fmt.Sprint("run-", i), `{"old":true}`))
	}
	if got := files(t, dir); len(got) != 10 {
		t.Errorf("five executions left %v", got)
	}
	b.clock.Advance(91 * 24 * time.Hour)
	again := b.start(arn, "run-3", `{"old":false}`)
	b.end(again)
	if got := files(t, dir); len(got) != 2 {
		t.Errorf("91 days later there is %v", got)
	}
	list, err := b.client.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: arn})
	if err != nil || len(list.Executions) != 1 || *list.Executions[0].Name != "run-3" {
		t.Errorf("list: %+v, %v", list, err)
	}
	gone := strings.TrimSuffix(*again, "3") + "4"
	var missing *types.ExecutionDoesNotExist
	if _, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: &gone}); !errors.As(err, &missing) {
		t.Errorf("the history of an expired one: %v", err)
	}
	h, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: again})
	if err != nil || aws.ToString(h.Events[0].ExecutionStartedEventDetails.Input) != `{"old":false}` {
		t.Errorf("the history under a name that is used again: %+v, %v", h, err)
	}
	b.service.Close()
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left after Close: %v", got)
	}
}

// Nobody may take half a history for a whole one.
func TestAHistoryThatIsNotWholeIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, stepfunctions.Config{Dir: dir})
	run := b.start(b.create("m", machine(waitADay)), "r", `{}`)
	b.eventually("it waits", func() bool {
		h, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run})
		return err == nil && len(h.Events) == 2
	})
	folders, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	if err := os.RemoveAll(folders[0]); err != nil {
		t.Fatal(err)
	}
	b.eventually("it ends", func() bool {
		b.clock.Advance(6 * time.Hour)
		return b.describe(run).Status == types.ExecutionStatusSucceeded
	})
	_, err = b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run})
	var e smithy.APIError
	if !errors.As(err, &e) || !strings.Contains(e.ErrorMessage(), "isn't whole") {
		t.Errorf("history: %v", err)
	}
	if _, err := b.service.StartExecution(t.Context(), "arn:aws:states:"+awsproto.Region+":"+awsproto.Account+":stateMachine:m", "s", []byte(`{}`)); err != nil {
		t.Errorf("the next start: %v", err)
	}
}

// files lists what lies in the folders that services have made.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	folders, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != ".owner" {
				all = append(all, e.Name())
			}
		}
	}
	return all
}
