// Package sts answers: who am I, says the local AWS?
//
// It has GetCallerIdentity alone, in the query protocol that the SDKs and the
// CLI use for STS.
package sts

import (
	"context"
	"net/http"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

type service struct{}

// Handler answers form posts with an Action.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { awsproto.ServeQuery(w, r, service{}) })
}

// Namespace implements awsproto.QueryService.
func (service) Namespace() string { return "https://sts.amazonaws.com/doc/2011-06-15/" }

type identity struct {
	Arn     string
	UserID  string `xml:"UserId"`
	Account string
}

// CallForm implements awsproto.QueryService.
func (service) CallForm(ctx context.Context, action string, in *awsproto.Form) (any, error) {
	if action != "GetCallerIdentity" {
		return nil, awsproto.Errorf("InvalidAction", "the local STS has no action %s, only GetCallerIdentity", action)
	}
	if err := in.Unread(); err != nil {
		return nil, err
	}
	caller := awsproto.CallerOf(ctx)
	id := caller.AccessKeyID
	if id == "" {
		id = awsproto.Account
	}
	return identity{caller.ARN(), id, awsproto.Account}, nil
}
