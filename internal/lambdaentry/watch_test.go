package lambdaentry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

func TestTheWatchdogRaisesWhatItCantRepair(t *testing.T) {
	t.Parallel()
	r, p, store := rotator(t)
	var lines bytes.Buffer
	r.Log = slog.New(slog.NewJSONHandler(&lines, nil))
	no := false
	store.Edit(managed, func(d *rotation.Description) { d.RotationEnabled = &no })
	answer, err := lambdaentry.Watch(r)(t.Context(), []byte(`{}`))
	if err != nil || len(p.started) > 0 {
		t.Fatalf("%v, started %v", err, p.started)
	}
	text, err := json.Marshal(answer)
	if err != nil || !strings.Contains(string(text), `"findings":[{"finding":"RotationOff","secret":"`+managed+`","saw":`) {
		t.Errorf("answered %s, %v", text, err)
	}
	var line map[string]any
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
		t.Fatalf("%s isn't one line: %v", lines.String(), err)
	}
	if line["msg"] != "finding" || line["finding"] != "RotationOff" || line["secret"] != managed || line["do"] == "" {
		t.Errorf("logged %v", line)
	}
}

// The end of an execution names its secret in its input, which isn't ours to trust.
func TestTheEndOfARunIsLookedInto(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, input string
		looked      int
	}{
		{"ours", `{"secret":"` + managed + `","token":"t","direction":"head"}`, 1},
		{"an unmanaged secret's", `{"secret":"` + managed + `x","token":"t"}`, 0},
		{"another machine's", `["order 66"]`, 1}, // then every managed secret is looked at
	} {
		r, _, _ := rotator(t)
		text, err := json.Marshal(map[string]any{"source": "aws.states", "detail": map[string]any{"input": tt.input, "status": "SUCCEEDED"}})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := lambdaentry.Watch(r)(t.Context(), text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		said, _ := json.Marshal(answer)
		if n := strings.Count(string(said), `"secret":"`); n != tt.looked {
			t.Errorf("%s: looked at %d secrets: %s", tt.name, n, said)
		}
	}
}
