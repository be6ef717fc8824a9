package keyturn

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/account"
)

// arn names something of this account and region.
func (b *builder) arn(service, resource string) string {
	return "arn:" + b.partition + ":" + service + ":" + b.region + ":" + b.accountID + ":" + resource
}

// secretARN is the secret's ARN. Where keyturn.yaml has the name only, it is a
// pattern for the six characters that Secrets Manager appends; a longer name that
// begins alike doesn't fit it.
func (b *builder) secretARN(s account.Secret) string {
	if ref, made := b.made[s.Secret]; made {
		return ref
	}
	if policy.IsARN(s.Secret) {
		return s.Secret
	}
	return b.arn("secretsmanager", "secret:"+s.Secret+"-??????")
}

// secretID is what CloudFormation takes for a secret.
func (b *builder) secretID(s account.Secret) string {
	if ref, made := b.made[s.Secret]; made {
		return ref
	}
	return s.Secret
}

// nameOf is a secret's name, whether it is listed by that or by its ARN.
func nameOf(secret string) string {
	if !policy.IsARN(secret) {
		return secret
	}
	name := secret[strings.LastIndexByte(secret, ':')+1:]
	return name[:len(name)-len("-AbCdEf")] // package policy has checked its form
}

// constructID names a secret's constructs, and so the logical ids of its schedule
// and policy. It follows from the name alone: CloudFormation makes a resource
// whose logical id changes anew before it deletes the old one, and the deletion
// of the old schedule would switch the new one off.
func constructID(secret string) string {
	name := nameOf(secret)
	sum := sha256.Sum256([]byte(name))
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, name)
	return plain[:min(len(plain), 40)] + hex.EncodeToString(sum[:4])
}

// place is the account and the region of a secret's ARN; empty for a name.
func place(secret string) (region, accountID string) {
	parts := strings.Split(secret, ":")
	if !policy.IsARN(secret) || len(parts) < 5 {
		return "", ""
	}
	return parts[3], parts[4]
}

// samePlace refuses secrets that this stack can't rotate: a secret's rotation
// function has to be in its account and region.
func samePlace(secrets []account.Secret, region, accountID string) error {
	for _, s := range secrets {
		r, a := place(s.Secret)
		if r == "" {
			continue
		}
		if (region != "" && r != region) || (accountID != "" && a != accountID) {
			return fmt.Errorf("secret %s isn't in account %s, region %s: deploy Keyturn where the secret is, with a keyturn.yaml of its own", s.Secret, accountID, region)
		}
		region, accountID = r, a
	}
	return nil
}
