package keyturn

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/policy/account"
)

// LogFunction is the folder of the function that hears of logins which are tried
// while they are held. A zone has it if its secrets name log groups.
const LogFunction = "lateLogin"

// latePattern is what PostgreSQL writes of such a try; the function reads the rest.
const latePattern = `"is not permitted to log in"`

// logged are the secrets that name log groups.
func logged(secrets []account.Secret) []account.Secret {
	var some []account.Secret
	for _, s := range secrets {
		if len(s.LogGroups) > 0 {
			some = append(some, s)
		}
	}
	return some
}

// folders of the functions that a zone has.
func (z *zone) folders() []string {
	if len(logged(z.secrets)) == 0 {
		return zoneFunctions
	}
	return append(ZoneFunctions(), LogFunction)
}

// subscriptions send a zone's function what its secrets' log groups are told. The
// groups are RDS's and have to be there. CloudWatch Logs takes two subscription
// filters a group (quotas).
func (b *builder) subscriptions(z *zone) {
	groups := map[string]bool{}
	for _, s := range z.secrets {
		for _, g := range s.LogGroups {
			groups[g] = true
		}
	}
	f := z.functions[LogFunction]
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		sum := sha256.Sum256([]byte(group))
		id := hex.EncodeToString(sum[:4])
		// Logs names the group's streams as its source (user guide, "Subscription
		// filters with Lambda").
		permission := awslambda.NewCfnPermission(z.scope, jsii.String("LogPermission"+id), &awslambda.CfnPermissionProps{
			Action: jsii.String(invoke), FunctionName: f.alias.FunctionArn(), Principal: jsii.String("logs.amazonaws.com"),
			SourceAccount: &b.accountID, SourceArn: jsii.String(b.arn("logs", "log-group:"+group+":*")),
		})
		filter := awslogs.NewCfnSubscriptionFilter(z.scope, jsii.String("LogSubscription"+id), &awslogs.CfnSubscriptionFilterProps{
			DestinationArn: f.alias.FunctionArn(), FilterName: jsii.String(functionName(b.name, z.Name, LogFunction)),
			FilterPattern: jsii.String(latePattern), LogGroupName: jsii.String(group),
		})
		filter.AddResourceDependency(permission, nil)
	}
	if f != nil {
		b.invoking(z, f)
	}
}
