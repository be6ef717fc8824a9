package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/audit"
)

// manifest lets the deployed audit function publish, as its rule does each day.
func manifest(ts *testscript.TestScript, _ bool, _ []string) {
	answer, err := stageOf(ts).local.Lambda.Invoke(context.Background(), ts.Getenv("KEYTURN_DEPLOYMENT")+"-audit",
		[]byte(`{"source":"aws.events","detail-type":"Scheduled Event","detail":{},"resources":[]}`))
	ts.Check(err)
	if answer.FunctionError != "" || !strings.Contains(string(answer.Payload), `"manifest":"2`) {
		ts.Fatalf("the audit function answered %s", answer.Payload)
	}
}

// publickey writes the public half of the signing key, in DER and in PEM, and one
// of another key: publickey DER PEM OTHER.
func publickey(ts *testscript.TestScript, _ bool, args []string) {
	api := kms.NewFromConfig(scriptConfig(ts))
	public := func(key string) []byte {
		out, err := api.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: &key})
		ts.Check(err)
		return out.PublicKey
	}
	der := public(ts.Getenv("SIGNING_KEY"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), der, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	other, err := api.CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), public(aws.ToString(other.KeyMetadata.KeyId)), 0o600))
}

// copytrail writes the bucket's objects into a folder: copytrail FOLDER.
func copytrail(ts *testscript.TestScript, _ bool, args []string) {
	ctx, ledger := context.Background(), audit.Dir{Root: ts.MkAbs(args[0])}
	ts.Check(os.MkdirAll(ledger.Root, 0o700))
	for _, key := range trailKeys(ts, "") {
		ts.Check(ledger.Put(ctx, key, trailObject(ts, key)))
	}
}

func trailKeys(ts *testscript.TestScript, prefix string) (keys []string) {
	out, err := s3.NewFromConfig(scriptConfig(ts), pathStyle).ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: aws.String("trail"), Prefix: &prefix})
	ts.Check(err)
	for _, o := range out.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	return keys
}

func trailObject(ts *testscript.TestScript, key string) []byte {
	out, err := s3.NewFromConfig(scriptConfig(ts), pathStyle).GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("trail"), Key: &key})
	ts.Check(err)
	body, err := io.ReadAll(out.Body)
	ts.Check(err)
	return body
}

// unsign puts another signature under the last manifest of the bucket: unsign.
func unsign(ts *testscript.TestScript, _ bool, _ []string) {
	keys := trailKeys(ts, "manifests/")
	key := keys[len(keys)-1]
	body := trailObject(ts, key)
	var m audit.Manifest
	ts.Check(json.Unmarshal(body, &m))
	old := base64.StdEncoding.EncodeToString(m.Signature)
	m.Signature[9] ^= 1
	body = bytes.Replace(body, []byte(old), []byte(base64.StdEncoding.EncodeToString(m.Signature)), 1)
	_, err := s3.NewFromConfig(scriptConfig(ts), pathStyle).PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("trail"), Key: &key, Body: bytes.NewReader(body)})
	ts.Check(err)
}

// shorten takes the last record of the first chain out of a folder: shorten FOLDER.
func shorten(ts *testscript.TestScript, _ bool, args []string) {
	ledger := audit.Dir{Root: ts.MkAbs(args[0])}
	keys, err := ledger.List(context.Background(), "records/")
	ts.Check(err)
	last := keys[len(keys)-1]
	ts.Check(os.Remove(ts.MkAbs(args[0] + "/" + last)))
}
