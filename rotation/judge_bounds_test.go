package rotation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/rotation"
)

// A cursor crosses Step Functions, which takes 262,144 bytes of everything
// together. What parties write of themselves can't make it long, nor can the most
// consumers that a policy may list.
func TestADrainsCursorStaysSmall(t *testing.T) {
	t.Parallel()
	for what, by := range map[string]string{
		"control characters": strings.Repeat("\x01", 5000), "quotes": strings.Repeat(`"\`, 5000), "markup": strings.Repeat("<>&", 5000),
		"no UTF-8": strings.Repeat("\xff", 5000), "text": "its own report " + strings.Repeat("é", 5000), "separators": strings.Repeat("\u2028", 5000),
	} {
		policy := rotation.Policy{QuietPolls: 3}
		var seen []rotation.Evidence
		for i := range 500 {
			name := fmt.Sprintf("%03d%s", i, strings.Repeat("n", 60))
			policy.Parties = append(policy.Parties, rotation.Party{Name: name})
			seen = append(seen, rotation.Evidence{Party: name, By: by, Proof: rotation.Loaded, At: drainBase},
				rotation.Evidence{Party: "unregistered-" + name, By: "x", Proof: rotation.Loaded, At: drainBase})
		}
		var res rotation.Result
		for range 3 {
			var err error
			if res, err = rotation.JudgeDrain(policy, res.Cursor, drainBase, rotation.Observation{Subject: "s", Sighted: seen}); err != nil {
				t.Fatal(err)
			}
		}
		if res.Outcome != rotation.Done || len(res.Evidence) != 500 || what == "text" && !strings.HasPrefix(res.Evidence[0].By, "its own report é") {
			t.Errorf("%s: it is %s with %d pieces of evidence", what, res.Outcome, len(res.Evidence))
		}
		travels := res.Cursor
		for range 3 { // a string in the step's cursor, in the run's, in the answer
			text, err := json.Marshal(travels)
			if err != nil {
				t.Fatal(err)
			}
			travels = string(text)
		}
		if len(travels) > 96<<10 {
			t.Errorf("%s: 500 parties make a cursor of %d bytes, %d as it travels", what, len(res.Cursor), len(travels))
		}
	}
}
