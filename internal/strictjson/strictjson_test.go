package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/strictjson"
)

type inner struct {
	Number int `json:"number"`
}

type Embedded struct {
	Base string `json:"base"`
}

type picky string

func (p *picky) UnmarshalJSON(raw []byte) error {
	if string(raw) != `"yes"` {
		return errors.New("must be yes")
	}
	*p = "yes"
	return nil
}

type document struct {
	Embedded
	Name   string `json:"name"`
	Plain  bool
	List   []inner           `json:"list,omitempty"`
	ByName map[string]*inner `json:"by_name,omitempty"`
	Raw    json.RawMessage   `json:"raw,omitempty"`
	Any    any               `json:"any,omitempty"`
	Picky  *picky            `json:"picky,omitempty"`
	Hidden int               `json:"-"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	tests := map[string]string{
		`{"name":"x","Plain":true,"base":"b","list":[{"number":1}],"by_name":{"A":{"number":2},"a":null},"raw":{"x":1,"X":2},"any":[{"y":1}],"picky":"yes"}`: "",
		`{}`:                         "",
		`null`:                       "",
		``:                           "ends too soon",
		`{`:                          "ends too soon",
		`{"name"}`:                   "isn't JSON from byte",
		`x`:                          "isn't JSON from byte 1",
		`[]`:                         "the document must be an object, not array",
		`"x"`:                        "the document must be an object, not string",
		`{} {}`:                      "is followed by something",
		`{"Name":"x"}`:               `field "Name" is written "name"`,
		`{"plain":true}`:             `field "plain" is written "Plain"`,
		`{"name":"x","name":"y"}`:    `field "name" occurs twice`,
		`{"raw":{"x":1,"x":2}}`:      `field "raw.x" occurs twice`,
		`{"any":{"x":1,"x":2}}`:      `field "any.x" occurs twice`,
		`{"list":[{"Number":1}]}`:    `field "list[0].Number" is written "number"`,
		`{"by_name":{"k":{"n":1}}}`:  `field "by_name.k.n" is unknown; there are number`,
		`{"other":1}`:                `field "other" is unknown; there are Plain, any, base, by_name, list, name, picky, raw`,
		`{"Hidden":1}`:               `field "Hidden" is unknown`,
		`{"Embedded":{}}`:            `field "Embedded" is unknown`,
		`{"name":5}`:                 `field "name" must be a string, not number`,
		`{"list":[{"number":1.5}]}`:  `number" must be a whole number of its range, not number`,
		`{"list":{}}`:                `field "list" must be an array, not object`,
		`{"list":[{"number":1e99}]}`: "whole number",
		`{"name":"\ud800"}`:          "half of a surrogate",
		`{"name":"\ud83d\ude00�"}`:   "",
		`{"name":"\ud83dx\ude00"}`:   "half of a surrogate",
		`{"name":"\\ud83d"}`:         "",
		`{"\udc00":1}`:               "half of a surrogate",
		"{\"name\":\"\xff\"}":        "isn't UTF-8",
		`{"picky":"no"}`:             "must be yes",
		`{"any":` + deep + `}`:       "deeper than 64",
	}
	for text, want := range tests {
		var d document
		err := strictjson.Decode([]byte(text), &d)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	var d document
	if err := strictjson.DecodeKnown([]byte(`{"other":{"a":1},"name":"x"}`), &d); err != nil || d.Name != "x" {
		t.Errorf("a new member: %+v, %v", d, err)
	}
	for _, text := range []string{`{"NAME":"x"}`, `{"new":1,"new":2}`} {
		if err := strictjson.DecodeKnown([]byte(text), &d); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// FuzzDecode: what is taken is the same for every reader, and comes back.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"x","list":[{"number":1}],"by_name":{"a":{"number":2}},"any":[1,"2",null,{"k":true}],"picky":"yes"}`))
	f.Add([]byte(`{"name":"a","NAME":"b"}`))
	f.Add([]byte(`{"raw":{"a":[]}}`))
	f.Add([]byte(` null `))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d document
		if strictjson.Decode(text, &d) != nil {
			return
		}
		var loose map[string]json.RawMessage
		if err := json.Unmarshal(text, &loose); err != nil {
			t.Fatalf("%q was taken: %v", text, err)
		}
		for name := range loose {
			switch name {
			case "base", "name", "Plain", "list", "by_name", "raw", "any", "picky":
			default:
				t.Errorf("%q has the unknown member %q", text, name)
			}
		}
		written, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again document
		if err := strictjson.Decode(written, &again); err != nil {
			t.Fatalf("%q was written %q: %v", text, written, err)
		}
		rewritten, _ := json.Marshal(again)
		if diff := cmp.Diff(string(written), string(rewritten)); diff != "" {
			t.Errorf("%q changes:\n%s", text, diff)
		}
	})
}
