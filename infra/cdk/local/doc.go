// Package local answers: does what the CDK app deploys rotate a credential?
//
// Its tests synthesize the app, stand the template up on the local AWS, with the
// real functions and a real PostgreSQL, and let it be used. They are the nearest
// to a deployment that can be had without an account.
package local
