package stepfunctions

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

var errClosed = errors.New("the local Step Functions is closed")

const (
	machinePrefix   = "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:"
	executionPrefix = "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":execution:"

	longestName = 80 // characters
)

// checkName applies the rules for names of state machines and executions (API
// reference, StartExecution, name).
func checkName(name string) error {
	if n := utf8.RuneCountInString(name); n == 0 || n > longestName {
		return awsproto.Errorf("InvalidName", "Invalid Name: '%s': a name has 1 to %d characters", name, longestName)
	}
	for _, r := range name {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError || r >= 0xFFFE && r <= 0xFFFF ||
			strings.ContainsRune("<>{}[]?*\"#%\\^|~`$&,;:/", r) {
			return awsproto.Errorf("InvalidName", "Invalid Name: '%s': %q may not stand in a name", name, r)
		}
	}
	return nil
}

// checkARN refuses what is no ARN at all; one of something else is merely
// unknown.
func checkARN(arn string) error {
	if !strings.HasPrefix(arn, "arn:") {
		return awsproto.Errorf("InvalidArn", "Invalid Arn: 'Invalid ARN prefix: %s'", arn)
	}
	return nil
}
