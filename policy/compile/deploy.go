package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/account"
)

// deploy reads what the CDK app deploys beside the policy.
func (r *reader) deploy(f field, d *account.Deploy) {
	top := r.mapping(f, "name", "zones", "audit", "alarms", "trail", "permissions_boundary", "break_glass", "kms_keys")
	r.text(top["name"], &d.Name)
	d.Zones = r.zones(top["zones"])
	audit := r.mapping(top["audit"], "retention", "lock")
	r.duration(audit["retention"], &d.Audit.Retention)
	r.lock(audit["lock"], &d.Audit)
	r.text(r.mapping(top["alarms"], "topic")["topic"], &d.Topic)
	r.text(top["trail"], &d.Trail)
	r.text(top["permissions_boundary"], &d.PermissionsBoundary)
	r.texts(top["break_glass"], &d.BreakGlass)
	r.texts(top["kms_keys"], &d.Keys)
}

func (r *reader) lock(f field, a *account.Audit) {
	mode := "governance"
	r.text(f, &mode)
	if mode != "governance" && mode != "compliance" {
		r.fail(f.path, fmt.Sprintf("%q is no mode of Object Lock", mode), suggest(mode, []string{"governance", "compliance"}))
	}
	a.Compliance = mode == "compliance"
}

// zones reads a mapping whose keys are the zones' names.
func (r *reader) zones(f field) []account.Zone {
	named := r.mapping(f, keysOf(f.node)...)
	var zones []account.Zone
	for _, name := range slices.Sorted(maps.Keys(named)) {
		z := account.Zone{Name: name}
		fields := r.mapping(named[name], "vpc", "subnets", "security_groups")
		r.text(fields["vpc"], &z.VPC)
		r.texts(fields["subnets"], &z.Subnets)
		r.texts(fields["security_groups"], &z.SecurityGroups)
		zones = append(zones, z)
	}
	return zones
}

// keysOf lists the keys of a mapping that may have any.
func keysOf(n ast.Node) []string {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil
	}
	var keys []string
	for it := m.MapRange(); it.Next(); {
		if k, isText := it.Key().(*ast.StringNode); isText {
			keys = append(keys, k.Value)
		}
	}
	return keys
}

// schedule reads the expression and resolves its H.
func (r *reader) schedule(f field, e *policy.Entry) {
	r.text(f, &e.Schedule)
	spread, err := policy.Spread(e.Schedule, e.Secret)
	if err != nil && !r.faulty[f.path] {
		r.fail(f.path, err.Error(), "write it as in cron(0 H H(1-7) * ? *)")
		return
	}
	e.Schedule = strings.TrimSpace(spread)
}
