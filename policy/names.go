package policy

import "strings"

// These rules are plain code and not regular expressions: a counted repeat of
// 512 takes milliseconds to compile, at every cold start.

const (
	maxName     = 512 // API reference of Secrets Manager, CreateSecret
	maxConsumer = 63
	suffix      = 7 // the hyphen and six characters at an ARN's end
)

// IsARN reports whether a listed secret is an ARN and not a name.
func IsARN(secret string) bool { return strings.HasPrefix(secret, "arn:") }

// nameOf cuts the name out of a full ARN. Secrets Manager appends a hyphen and
// six characters to a secret's name (AWS Secrets Manager user guide, "secret
// ARN").
func nameOf(arn string) (string, bool) {
	parts := strings.Split(arn, ":") // a name holds no colon
	if len(parts) != 7 || parts[0] != "arn" || parts[2] != "secretsmanager" || parts[5] != "secret" {
		return "", false
	}
	partition, aws := strings.CutPrefix(parts[1], "aws")
	region, account, resource := parts[3], parts[4], parts[6]
	if !aws || !consists(partition, lower+"-") || region == "" || !consists(region, lower+digits+"-") ||
		len(account) != 12 || !consists(account, digits) || len(resource) <= suffix {
		return "", false
	}
	name, end := resource[:len(resource)-suffix], resource[len(resource)-suffix:]
	return name, isName(name) && end[0] == '-' && consists(end[1:], letters+digits)
}

func isFullARN(arn string) bool {
	_, ok := nameOf(arn)
	return ok
}

// isName tells the names that Secrets Manager takes (API reference, CreateSecret).
func isName(name string) bool {
	return name != "" && len(name) <= maxName && consists(name, letters+digits+"/_+=.@-")
}

// isConsumer lets a name be an application_name, a file name and a log field.
func isConsumer(name string) bool {
	return name != "" && len(name) <= maxConsumer && name[0] != '.' && name[0] != '-' && consists(name, letters+digits+"._-")
}

// IsZone tells the names of zones: they are part of functions' names.
func IsZone(name string) bool {
	return name != "" && len(name) <= 16 && consists(name[:1], lower) && consists(name, lower+digits+"-")
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// consists reports whether a text, which may be empty, has characters of a set
// and no others.
func consists(text, set string) bool { return strings.Trim(text, set) == "" }

// overlap reports whether two listed secrets can be the same one.
func overlap(a, b string) bool {
	if a == b {
		return true
	}
	if IsARN(a) == IsARN(b) {
		return false
	}
	if IsARN(b) {
		a, b = b, a
	}
	name, ok := nameOf(a)
	return ok && name == b
}
