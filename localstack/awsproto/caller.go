package awsproto

import (
	"context"
	"net/http"
	"strings"
)

// Caller is who sent a request, as far as an unchecked signature says.
type Caller struct {
	AccessKeyID string // "" for an unsigned request
	// Role is the ARN of the role whose session this is; "" for a user. The local
	// AWS gives a role's sessions its ARN as their session token, and their name as
	// their access key id.
	Role      string
	UserAgent string
	SourceIP  string
}

type callerKey struct{}

// WithCaller returns the request with its sender in its context.
func WithCaller(r *http.Request) *http.Request {
	c := Caller{UserAgent: r.UserAgent()}
	c.SourceIP, _, _ = strings.Cut(r.RemoteAddr, ":")
	if _, credential, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		c.AccessKeyID, _, _ = strings.Cut(credential, "/")
	}
	if token := r.Header.Get("X-Amz-Security-Token"); strings.HasPrefix(token, "arn:aws:iam::") {
		c.Role = token
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// SignedFor is the service that a request's signature names, as in
// Credential=AKIA…/20260102/us-east-1/s3/aws4_request; "" for an unsigned one.
func SignedFor(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	credential, _, _ = strings.Cut(credential, ",")
	scope := strings.Split(strings.TrimSpace(credential), "/")
	// The signature of several Regions has no Region in its scope.
	if len(scope) < 4 || scope[len(scope)-1] != "aws4_request" {
		return ""
	}
	return scope[len(scope)-2]
}

// CallerOf returns the sender of a request; the zero Caller for a call from
// within the local AWS.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// RoleName is the last part of the role's ARN, without its path.
func (c Caller) RoleName() string { return c.Role[strings.LastIndexByte(c.Role, '/')+1:] }

// PrincipalARN is what policies know the caller by (IAM user guide, global
// condition keys, aws:PrincipalArn): for a session its role.
func (c Caller) PrincipalARN() string {
	if c.Role != "" {
		return c.Role
	}
	return c.ARN()
}

// ARN names who the local AWS takes the caller for: the session of a role, or the
// IAM user whose name is the access key id, and without one the account's root.
func (c Caller) ARN() string {
	if c.AccessKeyID == "" {
		return "arn:aws:iam::" + Account + ":root"
	}
	if c.Role != "" {
		return "arn:aws:sts::" + Account + ":assumed-role/" + c.RoleName() + "/" + c.AccessKeyID
	}
	return "arn:aws:iam::" + Account + ":user/" + c.AccessKeyID
}
