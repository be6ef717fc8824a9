// Package sts answers: who am I, says the local AWS?
//
// It has GetCallerIdentity alone, in the query protocol that the SDKs and the
// CLI use for STS.
package sts

import (
	"encoding/xml"
	"net/http"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"

type identity struct {
	XMLName xml.Name `xml:"GetCallerIdentityResponse"`
	XMLNS   string   `xml:"xmlns,attr"`
	Arn     string   `xml:"GetCallerIdentityResult>Arn"`
	UserID  string   `xml:"GetCallerIdentityResult>UserId"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
	Request string   `xml:"ResponseMetadata>RequestId"`
}

type failure struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	XMLNS   string   `xml:"xmlns,attr"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}

// Handler answers form posts with an Action.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		action := r.PostFormValue("Action")
		if action != "GetCallerIdentity" {
			write(w, http.StatusBadRequest, failure{
				XMLNS: namespace, Type: "Sender", Code: "InvalidAction",
				Message: "the local STS has no action " + action + ", only GetCallerIdentity", Request: uuid.NewString(),
			})
			return
		}
		caller := awsproto.CallerOf(r.Context())
		id := caller.AccessKeyID
		if id == "" {
			id = awsproto.Account
		}
		write(w, http.StatusOK, identity{
			XMLNS: namespace, Arn: caller.ARN(), UserID: id, Account: awsproto.Account, Request: uuid.NewString(),
		})
	})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(body) // the client is gone if this fails
}
