// Package conformance answers: which test shows that a rule of the rotation
// contract holds?
//
// Its tests are named after the rules of AWS's documentation as
// docs/conformance.md numbers them: TestC6_2_… shows rule C6.2. They speak
// through the AWS SDK to the embedded local AWS; with KEYTURN_CONFORMANCE_AWS=1
// (make conformance-aws) those that can be shown there speak to a real account.
// Rules about rotation functions run Keyturn's own and one written in Python
// with boto3 (testdata/python), on the same host.
package conformance
