package pgxauth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: a secret that is taken has a login that can be used as it stands
// there; the error about one that isn't never repeats a value.
func FuzzParse(f *testing.F) {
	const canary = "cAnArY-9f2c"
	for _, text := range []string{
		`{"username":"app","password":"` + canary + `","host":"db","port":5432,"dbname":"shop","engine":"postgres"}`,
		`{"username":"app","password":"` + canary + `","port":"5433","new":{"x":[1]}}`,
		`{"username":"app","password":"` + canary + `\u0000"}`,
		`{"username":"","password":["` + canary + `"]}`,
		`{"username":null,"password":{"` + canary + `":1}}`,
		`{"Username":"app","password":"` + canary + `","port":65536}`,
		`"` + canary + `"`, canary, `null`, ``,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text, "v1")
		if err != nil {
			if strings.Contains(err.Error(), canary) || strings.Contains(fmt.Sprintf("%+v", d), canary) {
				t.Errorf("%q: the value stands in %v", text, err)
			}
			return
		}
		var said map[string]any
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%q was taken: %v", text, err)
		}
		if said["username"] != d.username || said["password"] != d.password.Reveal() || d.username == "" || d.password.Empty() {
			t.Errorf("%q became %s", text, d.username)
		}
		if strings.Contains(d.username+d.password.Reveal()+d.host+d.dbname, "\x00") || !utf8.ValidString(d.username+d.password.Reveal()) {
			t.Errorf("%q: PostgreSQL can't take %+v", text, d)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", d, *d, d), canary) && strings.Contains(d.password.Reveal(), canary) &&
			!strings.Contains(d.username+d.host+d.dbname, canary) {
			t.Errorf("%q: the password is printed", text)
		}
	})
}
