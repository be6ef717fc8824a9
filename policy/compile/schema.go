package compile

import _ "embed"

// Schema is the JSON Schema of keyturn.yaml (draft 2020-12), for editors that
// complete and check while one writes. It takes everything that File takes, and
// more: rules between two fields are File's alone.
//
//go:embed keyturn.schema.json
var Schema []byte
