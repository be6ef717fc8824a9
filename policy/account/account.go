// Package account answers: what has been decided about how Keyturn is deployed
// into an AWS account?
//
// It is the part of keyturn.yaml that the functions never see: its block deploy,
// and what each secret says for the deployment alone. Package policy/compile
// reads it, the CDK app deploys it.
package account

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/policy"
)

// Account is a whole keyturn.yaml.
type Account struct {
	Policy  policy.Document
	Deploy  Deploy
	Secrets []Secret // as many, and in the same order, as the policy's entries
}

// Deploy is the block of that name. Every default is filled in.
type Deploy struct {
	// Name begins the name of everything that is made, so that two deployments
	// can stand in one account.
	Name  string
	Zones []Zone // sorted by name
	Audit Audit
	// Topic is the ARN of the SNS topic for findings and alarms; empty: one is made.
	Topic string
	// Trail is the ARN of the CloudTrail trail that records this region's
	// management events; empty: it is looked for before anything is deployed.
	Trail string
	// PermissionsBoundary is the ARN of the policy that bounds every role; empty: none.
	PermissionsBoundary string
	// BreakGlass are the ARNs of the roles and users, * for any characters, that
	// may write a managed secret beside Keyturn.
	BreakGlass []string
	// Keys are the ARNs of the KMS keys under which secrets lie that Keyturn
	// reads and doesn't rotate, such as an admin's.
	Keys []string
}

// Zone is a network from which targets are reached.
type Zone struct {
	Name    string
	VPC     string // its id
	Subnets []string
	// SecurityGroups are those of the functions; empty: one is made, to which
	// the targets' groups have to be opened.
	SecurityGroups []string
}

// Audit says how the trail is kept.
type Audit struct {
	// Retention is how long Object Lock keeps a record from being deleted, in whole days.
	Retention policy.Duration
	// Compliance: nobody, not even the account's root, can shorten it.
	Compliance bool
}

// Secret is what the deployment alone has to know of a secret.
type Secret struct {
	policy.Entry
	// Create says that the deployment makes the secret, without a value; else it is there.
	Create bool
	// Key is the ARN of the KMS key under which it lies; empty: AWS's own for
	// Secrets Manager.
	Key string
	// Reads are the ARNs of the other secrets that its engine reads.
	Reads []string
	// Files are the paths, from keyturn.yaml's folder, of files that its engine
	// reads; the deployment puts them into the functions' package.
	Files []string
	// LogGroups are the names of the CloudWatch log groups that tell of tries to
	// use a credential which is refused.
	LogGroups []string
}

// Defaults are what a file without the block says.
func Defaults() Deploy {
	return Deploy{Name: "keyturn", Audit: Audit{Retention: policy.Duration(400 * 24 * time.Hour)}}
}

// Bounds of what is deployed.
const (
	maxName    = 20 // names of functions have 64 characters, of roles too
	maxSubnets = 16 // Lambda's bound for one function (quotas)
	maxGroups  = 5  // likewise
)

// Check returns every rule that an account's content breaks. What Check of
// package policy says of the entries isn't repeated.
func Check(d Deploy, secrets []Secret) []policy.Problem {
	c := &checker{}
	if !isName(d.Name) {
		c.add("deploy.name", fmt.Sprintf("use 1 to %d lower-case letters, digits and hyphens, beginning with a letter", maxName), "%q can't begin names", d.Name)
	}
	c.audit(d.Audit)
	for _, z := range d.Zones {
		c.zone("deploy.zones."+z.Name, z)
	}
	c.arn("deploy.alarms.topic", d.Topic, "sns", "")
	c.arn("deploy.trail", d.Trail, "cloudtrail", "trail/")
	c.arn("deploy.permissions_boundary", d.PermissionsBoundary, "iam", "policy/")
	for i, principal := range d.BreakGlass {
		at := fmt.Sprintf("deploy.break_glass[%d]", i)
		resource, _ := cutARN(principal, "iam")
		if !strings.HasPrefix(resource, "role/") && !strings.HasPrefix(resource, "user/") {
			c.add(at, "give arn:aws:iam::ACCOUNT:role/NAME or …:user/NAME", "%q is no ARN of a role or user", principal)
		}
	}
	for i, key := range d.Keys {
		c.key(fmt.Sprintf("deploy.kms_keys[%d]", i), key)
	}
	c.secrets(d, secrets)
	return c.problems
}

type checker struct{ problems []policy.Problem }

func (c *checker) add(path, mend, what string, args ...any) {
	c.problems = append(c.problems, policy.Problem{Path: path, What: fmt.Sprintf(what, args...), Mend: mend})
}

func (c *checker) audit(a Audit) {
	if day := policy.Duration(24 * time.Hour); a.Retention < day || a.Retention%day != 0 {
		c.add("deploy.audit.retention", "use whole days, as in 400d", "%s isn't how long Object Lock can keep a record", a.Retention)
	}
}

func (c *checker) zone(path string, z Zone) {
	if !policy.IsZone(z.Name) {
		c.add(path, "use 1 to 16 lower-case letters, digits and hyphens, beginning with a letter", "%q can't name a zone", z.Name)
	}
	c.id(path+".vpc", z.VPC, "vpc-")
	if len(z.Subnets) == 0 || len(z.Subnets) > maxSubnets {
		c.add(path+".subnets", fmt.Sprintf("list 1 to %d, in two availability zones or more", maxSubnets), "%d are listed", len(z.Subnets))
	}
	for i, s := range z.Subnets {
		c.id(fmt.Sprintf("%s.subnets[%d]", path, i), s, "subnet-")
	}
	if len(z.SecurityGroups) > maxGroups {
		c.add(path+".security_groups", fmt.Sprintf("list %d or fewer", maxGroups), "%d are listed", len(z.SecurityGroups))
	}
	for i, s := range z.SecurityGroups {
		c.id(fmt.Sprintf("%s.security_groups[%d]", path, i), s, "sg-")
	}
}

// id checks an id of EC2: its prefix and hex digits.
func (c *checker) id(path, id, prefix string) {
	digits, ok := strings.CutPrefix(id, prefix)
	if !ok || len(digits) < 8 || len(digits) > 17 || strings.Trim(digits, "0123456789abcdef") != "" {
		c.add(path, "copy it from the VPC console: "+prefix+" and hex digits", "%q is no such id", id)
	}
}

func (c *checker) secrets(d Deploy, secrets []Secret) {
	zones := map[string]bool{}
	for _, z := range d.Zones {
		zones[z.Name] = true
	}
	known := "list it under deploy.zones"
	if len(zones) > 0 {
		known += ", or use one of: " + strings.Join(slices.Sorted(maps.Keys(zones)), ", ")
	}
	for i, s := range secrets {
		path := fmt.Sprintf("secrets[%d]", i)
		if s.Zone != "" && !zones[s.Zone] {
			c.add(path+".zone", known, "there is no zone %q", s.Zone)
		}
		if s.Zone == "" && len(zones) > 0 {
			c.add(path+".zone", "say in which zone its targets are reached", "missing, and there are zones")
		}
		if s.Create && policy.IsARN(s.Secret) {
			c.add(path+".create", "give its name under secret, or leave create out", "a secret that has an ARN exists already")
		}
		if s.Key != "" {
			c.key(path+".kms_key", s.Key)
		}
	}
}

// key wants a key's own ARN: what an alias stands for can change, and policies
// can't name it.
func (c *checker) key(path, arn string) {
	if resource, ok := cutARN(arn, "kms"); !ok || !strings.HasPrefix(resource, "key/") {
		c.add(path, "give the key's own ARN, arn:aws:kms:REGION:ACCOUNT:key/ID, not an alias", "%q is no ARN of a KMS key", arn)
	}
}

func (c *checker) arn(path, arn, service, prefix string) {
	if arn == "" {
		return
	}
	if resource, ok := cutARN(arn, service); !ok || !strings.HasPrefix(resource, prefix) || resource == prefix {
		c.add(path, fmt.Sprintf("it looks like arn:aws:%s:…:%sNAME", service, prefix), "%q is no such ARN", arn)
	}
}

// cutARN takes the resource out of an ARN of one service.
func cutARN(arn, service string) (resource string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[2] != service || parts[5] == "" {
		return "", false
	}
	return parts[5], true
}

func isName(name string) bool {
	if name == "" || len(name) > maxName || strings.HasSuffix(name, "-") {
		return false
	}
	const lower = "abcdefghijklmnopqrstuvwxyz"
	return strings.Trim(name[:1], lower) == "" && strings.Trim(name, lower+"0123456789-") == ""
}
