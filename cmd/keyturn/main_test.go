package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/audit"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"keyturn": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }})
}

// tests removes the functions that scripts have built.
type tests struct{ *testing.M }

func (t tests) Run() int {
	code := t.M.Run()
	if builtIn.Load() != nil {
		_ = os.RemoveAll(*builtIn.Load()) // the tests' verdict stands
	}
	return code
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"trail": trail, "tamper": tamper, "localaws": localAWS, "secret": secret, "failing": failing, "stolen": stolen,
		"draining": draining, "pending": pending, "deploy": deploy, "world": world, "eventually": eventually, "restore": restore, "sleep": pause,
		"manifest": manifest, "publickey": publickey, "copytrail": copytrail, "unsign": unsign, "shorten": shorten,
		"rotating": rotating, "rotation": rotationIs, "running": running, "ended": ended,
	}})
}

// trail writes the audit trail of a rotation: trail FOLDER SECRET.
func trail(ts *testscript.TestScript, _ bool, args []string) {
	j := audit.Journal{Ledger: audit.Dir{Root: ts.MkAbs(args[0])}, Actor: "createSecret", ActorType: audit.Controller}
	for i, step := range []string{"create", "set", "test"} {
		ts.Check(j.Record(context.Background(), audit.Record{
			SecretID: args[1], RotationID: "11111111-1111-4111-8111-111111111111", Step: step, Phase: audit.Intent,
			From: "one", To: "two", Time: time.Unix(int64(i), 0),
		}))
	}
}

// tamper changes one record of a trail: tamper FOLDER OLD NEW.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	done := false
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil || done || !bytes.Contains(body, []byte(args[1])) {
			return err
		}
		done = true
		if err := os.Remove(path); err != nil { // records are read-only
			return err
		}
		return os.WriteFile(path, bytes.Replace(body, []byte(args[1]), []byte(args[2]), 1), 0o600)
	}))
	if !done {
		ts.Fatalf("no record holds %q", args[1])
	}
}
