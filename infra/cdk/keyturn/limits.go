package keyturn

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/keyturn/keyturn/policy"
)

// Bounds of AWS, in characters.
const (
	// MostRolePolicy is for all inline policies of a role (IAM quotas).
	MostRolePolicy = 10_240
	// MostSecretPolicy is for a secret's resource policy (Secrets Manager quotas).
	MostSecretPolicy = 20_480
)

var token = regexp.MustCompile(`\$\{Token\[[^]]*\]\}`)

// size estimates how long a policy is once its tokens have their values: an ARN
// of a created secret is spelled out, any other token counts as 40 characters.
func (b *builder) size(doc map[string]any) int {
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err) // texts and lists only
	}
	text := string(raw)
	for secret, ref := range b.made {
		text = strings.ReplaceAll(text, ref, b.arn("secretsmanager", "secret:"+secret+"-??????"))
	}
	return len(token.ReplaceAllString(text, strings.Repeat("x", 40)))
}

// fits reports the first role that would have too much in its policy.
func (b *builder) fits() error {
	for _, z := range append(b.zones, b.control) {
		for _, folder := range folders(z) {
			f := z.functions[folder]
			if n := b.size(document(b.statements(folder, b.scopeOf(z, f))...)); n > MostRolePolicy {
				return fmt.Errorf("the policy of function %s has about %d characters, IAM takes %d: it names %d secrets; divide them among zones, or among deployments with a name each",
					f.name, n, MostRolePolicy, len(z.secrets))
			}
		}
	}
	return nil
}

// limit is the time-out of every function: function_limit of keyturn.yaml.
func (b *builder) limit() time.Duration {
	var doc struct {
		Limit policy.Duration `json:"function_limit"`
	}
	if err := json.Unmarshal(b.account.Policy.JSON(), &doc); err != nil {
		panic(err) // a Document has written it
	}
	return time.Duration(doc.Limit)
}
