package audit_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/audit"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ in, want string }{
		"white space and order":         {`{ "b" : [ 1 , 2 ] , "a" : null }`, `{"a":null,"b":[1,2]}`},
		"escapes":                       {`"\u0041\u00e9\/\u2028<>&\u0007\n\u007f"`, "\"Aé/\u2028<>&\\u0007\\n\u007f\""},
		"numbers":                       {`[1.0,-0,1e3,1E-7,333333333.33333329,1e21]`, `[1,0,1000,1e-7,333333333.3333333,1e+21]`},
		"names by their UTF-16":         {`{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3}`, "{\"€\":3,\"😀\":2,\"\ufb33\":1}"},
		"names that aren't all ASCII":   {`{"é":1,"z":2,"hash":3,"h\ud83d\ude00":4,"ha":5}`, `{"ha":5,"hash":3,"h😀":4,"z":2,"é":1}`},
		"empty ones":                    {`[{},[],""]`, `[{},[],""]`},
		"booleans keep their own order": {`[true,false]`, `[true,false]`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := audit.Canonical([]byte(test.in))
			if err != nil || string(got) != test.want {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
	for _, bad := range []string{``, `{`, `{"a":1,"a":2}`, `1 2`, `{"a":1}x`, `1e999`, `[1,]`, string(bytes.Repeat([]byte("["), 1000))} {
		if got, err := audit.Canonical([]byte(bad)); err == nil {
			t.Errorf("%.20q became %s", bad, got)
		}
	}
}

func TestCanonicalIsAFixedPoint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		doc := rapid.MapOf(rapid.String(), rapid.OneOf(
			rapid.String().AsAny(), rapid.Float64Range(-1e300, 1e300).AsAny(), rapid.SliceOf(rapid.String()).AsAny(),
		)).Draw(rt, "document")
		raw, err := json.Marshal(doc)
		if err != nil {
			rt.Fatal(err)
		}
		once, err := audit.Canonical(raw)
		if err != nil {
			rt.Fatal(err)
		}
		twice, err := audit.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			rt.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}
