package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

const (
	old  = "11111111-1111-4111-8111-111111111111"
	next = "22222222-2222-4222-8222-222222222222"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// trailOf is a rotation's records: "create 0 done" is a result after 0 minutes,
// "drain 3 wait web" one that waits for web.
func trailOf(lines ...string) []audit.Record {
	var all []audit.Record
	for i, line := range lines {
		f := strings.Fields(line)
		minutes, _ := time.ParseDuration(f[1] + "m")
		rec := audit.Record{RotationID: next, Step: f[0], From: old, To: next, Time: noon.Add(minutes), Phase: audit.ResultPhase, Outcome: f[2], Seq: i + 1}
		rec.Missing = f[3:]
		all = append(all, rec)
	}
	return all
}

func TestStates(t *testing.T) {
	t.Parallel()
	forward := rotation.Situation{Need: rotation.NeedRun, Token: next, Direction: rotation.Forward}
	back := rotation.Situation{Need: rotation.NeedRun, Token: next, Direction: rotation.Back}
	finding := func(name rotation.FindingName) []rotation.Finding { return []rotation.Finding{{Name: name}} }
	for want, seen := range map[string]rotation.Seen{
		"stable":      {Situation: rotation.Situation{Need: rotation.NeedNothing}},
		"paused":      {Situation: rotation.Situation{Need: rotation.NeedNothing}, Description: rotation.Description{Paused: true}},
		"stuck":       {Situation: forward, Findings: finding(rotation.RunStuck)},
		"missing":     {Findings: finding(rotation.SecretMissing)},
		"stolen":      {Situation: rotation.Situation{Need: rotation.NeedReplace, Token: next}},
		"drain":       {Situation: forward},
		"back: drain": {Situation: back},
		"unknown":     {Situation: forward, Err: cmpErr{}},
		"waiting":     {Situation: rotation.Situation{Need: rotation.NeedStore, Token: "another"}},
		"create":      {Situation: rotation.Situation{Need: rotation.NeedRun, Token: "another", Direction: rotation.Head}},
	} {
		if got := describe(seen, passages(trailOf("finish 1 done", "drain 3 wait web"))); got.State != want {
			t.Errorf("got %s, want %s", got.State, want)
		}
	}
}

type cmpErr struct{}

func (cmpErr) Error() string { return "away" }

func TestTheTrailSaysWhoIsBehindAndSinceWhen(t *testing.T) {
	t.Parallel()
	records := trailOf("create 0 done", "finish 1 done", "drain 2 wait web batch", "drain 9 wait web")
	seen := rotation.Seen{
		Situation:   rotation.Situation{Need: rotation.NeedRun, Token: next, Direction: rotation.Forward},
		Description: rotation.Description{ARN: "arn", Name: "app", Versions: rotation.Versions{next: {rotation.Current}, old: {rotation.Retiring}}},
	}
	got := describe(seen, passages(records))
	want := row{
		Secret: "arn", Name: "app", State: "drain", Since: noon.Add(2 * time.Minute), Current: next, CurrentSince: noon.Add(time.Minute),
		Holders: []string{"web"}, Findings: []rotation.Finding{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	over := passages(append(records, trailOf("revoke 12 done")...))
	if !over[0].Ended.Equal(noon.Add(12*time.Minute)) || over[0].Waits != nil {
		t.Errorf("got %+v", over[0])
	}
}

// What others have written can't steer the terminal.
func TestThePictureIsPlain(t *testing.T) {
	t.Parallel()
	p := passages(trailOf("create 0 done", "drain 2 wait web\x1b[2J"))[0]
	got := strings.Join(p.picture(noon.Add(4*time.Minute)), "\n")
	want := `rotation 22222222-2222-4222-8222-222222222222  2026-01-01 12:00:00  for 4m0s now
  create    ████████████████████···················· 2m0s    done
  drain     ····················████████████████████ 2m0s    wait
  waits for web[2J`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheTableIsRedrawnInPlace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	show := redraw(&out)
	for _, state := range []string{"create", "drain"} {
		if err := show([]row{{Name: "app", State: state}}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out.String(), "\x1b[3A\r\x1b[J") || !strings.HasSuffix(out.String(), "interrupt to end\n") {
		t.Errorf("got %q", out.String())
	}
}

func TestALineForEachChange(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	show := changes(&out, false)
	for _, state := range []string{"create", "create", "drain"} {
		if err := show([]row{{Secret: "arn", Name: "app", State: state}}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if want := "2026-01-01 12:00:00  app  create\n2026-01-01 12:00:00  app  drain\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
