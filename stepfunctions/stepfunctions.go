// Package stepfunctions answers: in which order do the steps of a rotation run?
//
// The ASL files are the one source of that order. The CDK app, the local AWS
// and the tests all read the files embedded here.
package stepfunctions

import (
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Rotation is the state machine of one rotation, with a ${name} for each
// function that it calls; the names are the folders of functions/.
//
//go:embed rotation.asl.json
var Rotation string

// Emergency is the state machine for a stolen credential.
//
//go:embed emergency.asl.json
var Emergency string

var placeholder = regexp.MustCompile(`\$\{([A-Za-z]+)\}`)

// Functions lists the functions that a definition calls, sorted.
func Functions(definition string) []string {
	names := map[string]bool{}
	for _, m := range placeholder.FindAllStringSubmatch(definition, -1) {
		names[m[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Definition fills a definition with the functions' names or ARNs. A function
// that is missing is an error: the placeholder would be deployed as it stands.
func Definition(definition string, functions map[string]string) (string, error) {
	var missing []string
	filled := placeholder.ReplaceAllStringFunc(definition, func(m string) string {
		name := m[2 : len(m)-1]
		arn, ok := functions[name]
		if !ok {
			missing = append(missing, name)
		}
		return arn
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("filling the state machine: no function for %v", missing)
	}
	return filled, nil
}
